"""The rows of the ledger's statements, and their decoding."""

from typing import NamedTuple, TypedDict

from service.chains.paper import pool_json
from service.chains.paper.market import Execution
from service.chains.paper.pool import Origin, PaperPool
from service.chains.venue import Balance
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Dex
from service.domain.tokens import TOKENS, Token
from service.domain.transaction import Fill, Landing, Residue, TransactionState, TransactionStatus

PENDING = TransactionStatus(TransactionState.PENDING)
EXPIRED = TransactionStatus(TransactionState.EXPIRED)


class MarketRow(NamedTuple):
    """The market's parameters, as created."""

    seed: int
    slot_ms: int


class PoolRow(NamedTuple):
    """A pool as of a commit; ``state`` is None if it has not changed since."""

    epoch: int
    sequence: int
    id: str
    dex: str
    program: str
    token_a: str
    token_b: str
    state: pool_json.StateJson | None
    vault_a: int
    vault_b: int
    opened_slot: int
    origin: str


class WalletRow(NamedTuple):
    """One owner's balance of a token, in base units."""

    owner: str
    token: str
    balance: int


class BalanceRow(NamedTuple):
    """A wallet's balance of a token, and the most that pending transactions may take of it; base units.

    A built-in token has neither mint nor decimals here.
    """

    token: str
    mint: str | None
    decimals: int | None
    balance: int
    in_flight: int


class LeadRow(NamedTuple):
    """The epoch that has begun; or, while another process leads, only the remaining time of its lease."""

    epoch: int | None
    sequence: int | None
    left_s: float


class AcceptedRow(NamedTuple):
    """A transaction that was accepted."""

    signature: str
    lands_slot: int


class ResidueJson(TypedDict):
    """What a transaction left in the wallet of one token between its legs, in base units."""

    token: str
    amount: int


class StatusRow(NamedTuple):
    """A transaction's status."""

    signature: str
    status: str
    amount_in: int | None
    amount_out: int | None
    failure: str | None
    landed_slot: int | None
    settled_at: str | None
    residue: list[ResidueJson] | None


class PendingRow(NamedTuple):
    """A transaction that waits to be executed."""

    signature: str
    message: str
    lands_slot: int


class SettledRow(NamedTuple):
    """A commit's number, and when its transactions landed."""

    sequence: int
    slot: int
    at: str


class TokenRow(NamedTuple):
    """A listed token."""

    symbol: str
    mint: str
    decimals: int


def held_of(row: BalanceRow) -> tuple[Token, Balance]:
    """Return a row's token, and the balance."""
    # A transaction pays no fee to a network, so nothing is kept for one.
    balance = Balance.of(row.balance, in_flight=row.in_flight, reserve=0)
    if row.mint is None or row.decimals is None:
        return TOKENS[row.token], balance
    return Token(row.token, row.mint, row.decimals), balance


def pool_of(row: PoolRow, state: pool_json.StateJson) -> PaperPool:
    """Return a row's pool, with its state."""
    return PaperPool(
        row.id,
        Dex(row.dex),
        row.program,
        row.token_a,
        row.token_b,
        pool_json.decode(row.program, state),
        row.vault_a,
        row.vault_b,
        row.opened_slot,
        Origin(row.origin),
    )


def status_of(row: StatusRow) -> TransactionStatus:
    """Return the status of a row's transaction."""
    if row.status == "pending":
        return PENDING
    if row.status == "expired":
        return EXPIRED
    landing = None
    if row.landed_slot is not None and row.settled_at is not None:
        landing = Landing(row.landed_slot, row.settled_at)
    failure = None if row.failure is None else FailureCode(row.failure)
    residue = tuple((left["token"], left["amount"]) for left in row.residue or ())
    return settled(Execution(row.signature, row.amount_in, row.amount_out, failure, residue), landing)


def settled(execution: Execution, landing: Landing | None) -> TransactionStatus:
    """Return an executed transaction's status; ``landing`` is used only if it landed."""
    if execution.amount_in is not None and execution.amount_out is not None:
        fill = Fill(execution.amount_in, execution.amount_out, execution.signature)
        residue = tuple(Residue(token, amount) for token, amount in execution.residue)
        return TransactionStatus(TransactionState.LANDED, fill=fill, landing=landing, residue=residue)
    failure = Failure.of(execution.failure or FailureCode.TRANSACTION_FAILED)
    return TransactionStatus(TransactionState.FAILED, failure=failure)
