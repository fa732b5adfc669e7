"""The price that fired a limit order, in the API's format."""

from service.domain.history import price_reached
from service.store.resting import Fired
from service.triggers.book import RestingLimit


def seen_limit(order: RestingLimit, paid: int) -> Fired:
    """Return a limit order to fire, with the price of its quote (``paid``: the output, in base units)."""
    observed = price_reached(order.token_in, order.amount_in, order.token_out, paid)
    return Fired(order.order_id, order.version, observed)
