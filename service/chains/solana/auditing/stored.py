"""Orders and their transactions as stored, page by page, so that any number of them fits into memory."""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.chains.holding import Holding
from service.chains.solana.proof import Validity
from service.chains.venue import VenueIdentity
from service.domain.transaction import NetworkCost
from service.postgres.queries import query
from service.postgres.session import Session

PAGE = 256
"""Orders of one page: most have one transaction, and nodes are asked for 256 statuses at once."""


class _VenueRow(NamedTuple):
    kind: str
    market: str
    wallet: str


class _OpeningRow(NamedTuple):
    mint: str
    token: str
    account: str
    slot: int
    amount: int


class _OrderRow(NamedTuple):
    id: str
    status: str
    token_in: str
    token_out: str
    amount_in: int | None
    amount_out: int | None
    tx_hash: str | None
    residue: list[dict[str, Any]] | None
    expires_at: int | None
    transactions: list[dict[str, Any]]


_VENUE = query("solana_audit_venue", _VenueRow)
_OPENING = query("solana_audit_opening", _OpeningRow)
_ORDERS = query("solana_audit_orders", _OrderRow)
_KNOWN = query("solana_audit_known")


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A signed transaction, and its outcome as recorded.

    Attributes:
        id: Its signature.
        raw: Its bytes.
        validity: Where it can land; None if that is not stored.
        slot: Where it was executed, if that is recorded.
        cost: What it cost, if that is recorded: then it was executed, or failed.
    """

    id: str
    raw: bytes
    validity: Validity | None
    slot: int | None
    cost: NetworkCost | None

    @property
    def was_executed(self) -> bool:
        """Whether it is recorded that it is in a block."""
        return self.slot is not None or self.cost is not None


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order with transactions.

    Attributes:
        amount_in: Base units paid; 0 before it is confirmed.
        amount_out: Base units received.
        residue: Base units that its fill left, by token.
        expires_at: Seconds since the Unix epoch, rounded down; None: it does not expire.
        transactions: The oldest first.
    """

    id: str
    status: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    tx_hash: str | None
    residue: Mapping[str, int]
    expires_at: int | None
    transactions: tuple[StoredTransaction, ...]

    @property
    def in_flight(self) -> StoredTransaction | None:
        """The transaction that may still land; None: there is none."""
        return self.transactions[-1] if self.status == "submitted" and self.transactions else None

    @property
    def settled(self) -> tuple[StoredTransaction, ...]:
        """The transactions whose outcome is certain."""
        return self.transactions if self.in_flight is None else self.transactions[:-1]


async def read_venue(session: Session) -> VenueIdentity | None:
    """Return the venue of the database; None before the first start."""
    for row in await session.fetch(_VENUE):
        return VenueIdentity(*row)
    return None


async def read_opening(session: Session) -> list[Holding]:
    """Return the opening balances, by mint."""
    return [Holding(*row) for row in await session.fetch(_OPENING)]


async def read_orders(session: Session, since: str | None) -> AsyncIterator[list[StoredOrder]]:
    """Yield pages of the orders that have transactions.

    Args:
        session: A session without a time-out.
        since: Only orders that have changed from this time on, as RFC 3339; None: all.
    """
    after = None
    while True:
        rows = await session.fetch(_ORDERS, {"after": after, "since": since, "limit": PAGE})
        if rows:
            after = rows[-1].id
            yield [_order(row) for row in rows]
        if len(rows) < PAGE:
            return


async def known_signatures(session: Session, signatures: Sequence[str]) -> set[str]:
    """Return which of these signatures are of transactions of orders."""
    return {row[0] for row in await session.fetch(_KNOWN, {"ids": list(signatures)})}


def _order(row: _OrderRow) -> StoredOrder:
    return StoredOrder(
        row.id,
        row.status,
        row.token_in,
        row.token_out,
        row.amount_in or 0,
        row.amount_out or 0,
        row.tx_hash,
        {each["token"]: int(each["amount"]) for each in row.residue or ()},
        row.expires_at,
        tuple(map(_transaction, row.transactions)),
    )


def _transaction(stored: Mapping[str, Any]) -> StoredTransaction:
    validity = cost = None
    if stored["blockhash_slot"] is not None:
        validity = Validity(stored["last_valid_height"], stored["blockhash_slot"])
    if stored["network_fee"] is not None:
        cost = NetworkCost(stored["network_fee"], stored["tip"], stored["rent"])
    return StoredTransaction(stored["id"], base64.b64decode(stored["raw"]), validity, stored["slot"], cost)
