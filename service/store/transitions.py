"""One step of an order in execution, and its row for the statement that appends it."""

import base64
from dataclasses import dataclass, field

from service.domain.history import Details
from service.domain.lifecycle import Status
from service.domain.quote import Amounts
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import SignedTransaction, TransactionStatus


@dataclass(frozen=True, slots=True)
class QuotedTransaction:
    """An attempt's signed transaction, and the amounts quoted for its route."""

    signed: SignedTransaction
    quoted: Amounts


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an order, to be written by ``owner``, which last read the order at ``version``.

    Once written it is a ``Committed``, with the entry's timestamp, and possibly in another status. If it ends
    an attempt whose transaction was stored, ``outcome`` is the transaction's final state.
    """

    order_id: str
    version: int
    owner: str
    status: Status
    write_id: str
    detail: Details = field(default_factory=Details)
    retry_in_ms: int | None = None
    routing: RoutingRecord | None = None
    transaction: QuotedTransaction | None = None
    outcome: TransactionStatus | None = None
    decimals_out: int | None = None


def transition_row(transition: Transition) -> dict[str, object]:
    """Return a step by the names of ``append_transitions``."""
    transaction, outcome, routing = transition.transaction, transition.outcome, transition.routing
    quoted = None if transaction is None else transaction.quoted
    fill = None if outcome is None else outcome.fill
    return {
        "id": transition.order_id,
        "version": transition.version,
        "owner": transition.owner,
        "status": transition.status,
        "detail": {**transition.detail, "writeId": transition.write_id},
        "retry_in_ms": transition.retry_in_ms,
        "quotes": routing and routing.quotes,
        "route": routing and routing.route,
        "transaction": None if transaction is None else _transaction(transaction.signed),
        # Sums over pools, which JSON's 64 bits may not hold.
        "quoted_in": quoted and str(quoted.amount_in),
        "quoted_out": quoted and str(quoted.amount_out),
        "amount_in": fill and fill.amount_in,
        "amount_out": fill and fill.amount_out,
        "tx_hash": fill and fill.tx_hash,
        "outcome": None if outcome is None else _outcome(outcome),
        "decimals_out": transition.decimals_out,
    }


def _transaction(signed: SignedTransaction) -> dict[str, object]:
    return {
        "id": signed.id,
        "venue": signed.dex,
        "raw": base64.b64encode(signed.raw).decode(),
        "maximum_in": signed.maximum_in,
        "minimum_out": signed.minimum_out,
        "last_valid_height": signed.last_valid_height,
        "blockhash_slot": signed.blockhash_slot,
    }


def _outcome(status: TransactionStatus) -> dict[str, object]:
    """Return what is stored of an outcome; what is not known is left out."""
    row: dict[str, object] = {}
    if status.landing is not None:
        row["slot"] = status.landing.slot
    if status.failure is not None:
        row["error"] = status.failure.detail
    if (cost := status.cost) is not None:
        row |= {"network_fee": cost.fee, "tip": cost.tip, "rent": cost.rent, "cost": cost.total}
    if status.residue:
        row["residue"] = [{"token": left.token, "amount": left.amount} for left in status.residue]
    return row
