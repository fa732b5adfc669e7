"""An order as a client placed it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.domain.quote import SwapMode

DEFAULT_SLIPPAGE_BPS = 100
DEFAULT_ACCOUNT = "default"
"""Whose orders these are, until API keys tell accounts apart."""


class OrderType(StrEnum):
    """How an order decides when to execute. The values are the API's words."""

    MARKET = "market"
    LIMIT = "limit"
    SNIPER = "sniper"


class TimeInForce(StrEnum):
    """How long a limit order is tried. A fill is always whole, so the last two mean the same."""

    GTC = "GTC"  # good till cancelled
    GTD = "GTD"  # good till a date
    IOC = "IOC"  # immediate or cancel
    FOK = "FOK"  # fill or kill

    @property
    def rests(self) -> bool:
        """Whether the order waits for its price."""
        return self in {TimeInForce.GTC, TimeInForce.GTD}


IMMEDIATE_S = 1.5
"""An order that is to be filled at once is submitted within so many seconds, or not at all."""


def submission_time_s(
    order_type: OrderType, time_in_force: TimeInForce | None, market_order_age_s: int
) -> float | None:
    """Return within how many seconds of being accepted an order must be submitted; None: any time.

    Args:
        order_type: Its type.
        time_in_force: A limit order's.
        market_order_age_s: The limit for market orders; 0: none.
    """
    if time_in_force is not None and not time_in_force.rests:
        return IMMEDIATE_S
    if order_type is OrderType.MARKET and market_order_age_s:
        return market_order_age_s
    return None


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A validated order before it is stored.

    ``amount`` is base units of ``token_in``, or of ``token_out`` if the mode is exact-out;
    ``amount_text`` is the amount as the client wrote it, which is how it comes back. ``slippage_bps`` is
    0 to 10000. ``decimals_in`` and ``decimals_out`` are the tokens'; None while tokenOut is not listed.

    A limit order has ``limit_price`` as it was written, and ``limit_out``, the base units that the whole
    amount must pay at least. ``sniper_conditions`` are JSON as sent. ``expires_at`` and ``submit_by`` are RFC
    3339: when the order expires, and until when it may be submitted if that is earlier.
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
    decimals_in: int
    decimals_out: int | None
    time_in_force: TimeInForce | None = None
    limit_price: str | None = None
    limit_out: int | None = None
    sniper_conditions: dict[str, Any] | None = None
    expires_at: str | None = None
    submit_by: str | None = None

    @property
    def rests(self) -> bool:
        """Whether the order waits for a condition, rather than being executed at once."""
        if self.time_in_force is not None:
            return self.time_in_force.rests
        return self.order_type is OrderType.SNIPER
