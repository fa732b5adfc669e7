"""An order as a client placed it."""

from dataclasses import dataclass
from enum import StrEnum

from service.domain.quote import SwapMode

DEFAULT_SLIPPAGE_BPS = 100
DEFAULT_ACCOUNT = "default"
"""Whose orders these are, until API keys tell accounts apart."""


class OrderType(StrEnum):
    """How an order decides when to execute. The values are the API's words."""

    MARKET = "market"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A validated order before it is stored.

    ``amount`` is base units of ``token_in``, or of ``token_out`` if the mode is exact-out;
    ``amount_text`` is the amount as the client wrote it, which is how it comes back. ``slippage_bps`` is
    0 to 10000.
    """

    id: str
    order_type: OrderType
    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    amount_text: str
    slippage_bps: int
    client_order_id: str | None
