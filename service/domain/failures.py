"""Failure codes: one table, shared by the API, the history and the log.

A failure before anything was sent and a rejection by the venue have different codes.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum


class Remedy(Enum):
    """Whether a failed attempt can be retried."""

    REQUOTE = "a new quote and a new attempt may succeed"
    NONE = "a retry cannot succeed"


class FailureCode(StrEnum):
    """A failure's stable name."""

    NO_ROUTE = "no_route"
    AMOUNT_TOO_SMALL = "amount_too_small"
    INSUFFICIENT_LIQUIDITY = "insufficient_liquidity"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    INSUFFICIENT_SOL = "insufficient_sol"
    POOL_DISABLED = "pool_disabled"
    POOL_NOT_OPEN = "pool_not_open"
    UNSUPPORTED_POOL = "unsupported_pool"
    QUOTES_UNAVAILABLE = "quotes_unavailable"
    SLIPPAGE_EXCEEDED = "slippage_exceeded"
    TRANSACTION_FAILED = "transaction_failed"
    TRANSACTION_REJECTED = "transaction_rejected"
    ATTEMPT_EXPIRED = "attempt_expired"
    LIMIT_NOT_REACHED = "limit_not_reached"
    PRICE_IMPACT_TOO_HIGH = "price_impact_too_high"
    NETWORK_FEE_TOO_HIGH = "network_fee_too_high"
    ROUTE_TOO_LARGE = "route_too_large"
    SIGNER_UNAVAILABLE = "signer_unavailable"
    NOT_FILLED_IMMEDIATELY = "not_filled_immediately"
    NOT_SUBMITTED_IN_TIME = "not_submitted_in_time"
    HISTORY_FULL = "history_full"
    APPROVAL_REFUSED = "approval_refused"
    NOT_APPROVED_IN_TIME = "not_approved_in_time"
    OVER_LIMIT = "over_limit"
    SIMULATED = "simulated"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class _Meaning:
    remedy: Remedy
    text: str


_MEANINGS: dict[FailureCode, _Meaning] = {
    FailureCode.NO_ROUTE: _Meaning(Remedy.NONE, "No pool trades this pair."),
    FailureCode.AMOUNT_TOO_SMALL: _Meaning(Remedy.NONE, "The amount is too small: the output would be zero."),
    FailureCode.INSUFFICIENT_LIQUIDITY: _Meaning(
        Remedy.REQUOTE, "No pool has enough liquidity for this amount."
    ),
    FailureCode.INSUFFICIENT_BALANCE: _Meaning(
        Remedy.NONE, "The wallet does not hold enough of the token to sell."
    ),
    FailureCode.INSUFFICIENT_SOL: _Meaning(
        Remedy.NONE, "The wallet does not hold enough SOL for the fee and the rent."
    ),
    FailureCode.POOL_DISABLED: _Meaning(Remedy.REQUOTE, "Swaps are disabled on the pool."),
    FailureCode.POOL_NOT_OPEN: _Meaning(Remedy.REQUOTE, "The pool has not opened yet."),
    FailureCode.UNSUPPORTED_POOL: _Meaning(
        Remedy.NONE, "The pool is in a mode that cannot be quoted exactly."
    ),
    FailureCode.QUOTES_UNAVAILABLE: _Meaning(Remedy.REQUOTE, "No venue returned a quote in time."),
    FailureCode.SLIPPAGE_EXCEEDED: _Meaning(
        Remedy.REQUOTE, "At execution the swap would have paid less than the minimum amount out."
    ),
    FailureCode.TRANSACTION_FAILED: _Meaning(
        Remedy.REQUOTE, "The transaction failed at the venue for a temporary reason."
    ),
    FailureCode.TRANSACTION_REJECTED: _Meaning(
        Remedy.NONE, "The venue rejected the transaction permanently."
    ),
    FailureCode.ATTEMPT_EXPIRED: _Meaning(Remedy.REQUOTE, "The transaction did not land while it was valid."),
    FailureCode.LIMIT_NOT_REACHED: _Meaning(
        Remedy.REQUOTE, "No route pays the limit price for the whole amount any more."
    ),
    FailureCode.PRICE_IMPACT_TOO_HIGH: _Meaning(
        Remedy.REQUOTE, "The best route's price impact is above the limit."
    ),
    FailureCode.NETWORK_FEE_TOO_HIGH: _Meaning(
        Remedy.REQUOTE, "The network's fee is above the limit for one transaction."
    ),
    FailureCode.ROUTE_TOO_LARGE: _Meaning(
        Remedy.REQUOTE, "The best route has too many legs for one transaction of the chain."
    ),
    FailureCode.SIGNER_UNAVAILABLE: _Meaning(Remedy.REQUOTE, "The signer did not sign the transaction."),
    FailureCode.NOT_FILLED_IMMEDIATELY: _Meaning(
        Remedy.NONE, "The IOC or FOK order could not be filled immediately."
    ),
    FailureCode.NOT_SUBMITTED_IN_TIME: _Meaning(
        Remedy.NONE, "The order could not be submitted within MAX_MARKET_ORDER_AGE_S."
    ),
    FailureCode.HISTORY_FULL: _Meaning(Remedy.NONE, "The order cannot rest again: its history is full."),
    FailureCode.APPROVAL_REFUSED: _Meaning(Remedy.NONE, "The order was not approved."),
    FailureCode.NOT_APPROVED_IN_TIME: _Meaning(
        Remedy.NONE, "The order was not approved within APPROVAL_TIMEOUT_S."
    ),
    FailureCode.OVER_LIMIT: _Meaning(
        Remedy.NONE, "The order would sell more than MAX_ORDER_AMOUNTS or MAX_DAY_AMOUNTS allow."
    ),
    FailureCode.SIMULATED: _Meaning(
        Remedy.NONE, "The transaction was simulated, and would have succeeded; nothing was signed."
    ),
    FailureCode.INTERNAL_ERROR: _Meaning(Remedy.REQUOTE, "Internal error."),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of one attempt: its code, and a human-readable text."""

    code: FailureCode
    detail: str

    @classmethod
    def of(cls, code: FailureCode) -> "Failure":
        """Return the failure with the code's default text."""
        return cls(code, _MEANINGS[code].text)

    @property
    def remedy(self) -> Remedy:
        """Whether the attempt can be retried."""
        return _MEANINGS[self.code].remedy


def describe(code: FailureCode) -> tuple[Remedy, str]:
    """Return a code's remedy and default text."""
    meaning = _MEANINGS[code]
    return meaning.remedy, meaning.text
