"""An order as a client placed it."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_SLIPPAGE_BPS = 100
DEFAULT_ACCOUNT = "default"
"""Whose orders these are, until API keys tell accounts apart."""


class OrderType(StrEnum):
    """How an order decides when to execute. The values are the API's words."""

    MARKET = "market"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A validated order before it is stored.

    ``amount_in`` is base units of ``token_in``; ``amount_in_text`` is the amount as the client
    wrote it, which is how it comes back. ``slippage_bps`` is 0 to 10000.
    """

    id: str
    order_type: OrderType
    token_in: str
    token_out: str
    amount_in: int
    amount_in_text: str
    slippage_bps: int
    client_order_id: str | None
