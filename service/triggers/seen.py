"""What a trigger saw, in the wire's form."""

from service.domain.amounts import format_price
from service.domain.tokens import TOKENS
from service.store.resting import Fired
from service.triggers.book import RestingLimit


def seen_limit(order: RestingLimit, paid: int) -> Fired:
    """Return a limit order that is to be executed, and the price that it was quoted: base units paid."""
    decimals_in, decimals_out = TOKENS[order.token_in].decimals, TOKENS[order.token_out].decimals
    price = format_price(paid, decimals_out, order.amount_in, decimals_in)
    return Fired(order.order_id, order.version, {"triggeredBy": {"price": price}})
