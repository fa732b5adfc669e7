"""What a trigger saw, in the wire's form."""

from service.domain.history import price_reached
from service.store.resting import Fired
from service.triggers.book import RestingLimit


def seen_limit(order: RestingLimit, paid: int) -> Fired:
    """Return a limit order that is to be executed, and the price that it was quoted: base units paid."""
    observed = price_reached(order.token_in, order.amount_in, order.token_out, paid)
    return Fired(order.order_id, order.version, observed)
