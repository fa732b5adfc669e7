"""The paper chain's ledger in PostgreSQL: the data of a chain's node. It only runs statements.

Every method raises ``VenueUnavailableError`` while PostgreSQL is unavailable.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict

import orjson

from service.chains.paper import pool_json
from service.chains.paper.ledger_rows import (
    PENDING,
    AcceptedRow,
    BalanceRow,
    MarketRow,
    PendingRow,
    PoolRow,
    SettledRow,
    StatusRow,
    TokenRow,
    WalletRow,
    held_of,
    pool_of,
    status_of,
)
from service.chains.paper.pool import PaperPool
from service.chains.paper.records import Arrival, CommitId, Group, Settlement, Submission, Wallets
from service.chains.paper.transaction import PaperTransaction, decode_message
from service.chains.venue import Balance, Traded, VenueUnavailableError
from service.clock import Clock
from service.domain.chain_times import SLOT_MS
from service.domain.failures import FailureCode
from service.domain.tokens import Token
from service.domain.transaction import Landing, TransactionState, TransactionStatus
from service.postgres.database import Database, UnavailableError
from service.postgres.queries import Query, R, query
from service.postgres.session import Parameters

_CREATE_MARKET = query("paper_create_market", MarketRow)
_OPEN_POOLS = query("paper_open_pools")
_FUND_WALLETS = query("paper_fund_wallets")
_GET_POOLS = query("paper_get_pools", PoolRow)
_GET_WALLETS = query("paper_get_wallets", WalletRow)
_GET_BALANCES = query("paper_get_balances", BalanceRow)
_READ_LEADER = query("paper_read_leader", CommitId)
_SUBMIT = query("paper_submit", AcceptedRow)
_GET_STATUSES = query("paper_get_statuses", StatusRow)
_REFUSE = query("paper_refuse")
_FIND_PENDING = query("paper_find_pending", PendingRow)
_SETTLE = query("paper_settle", SettledRow)
_GET_VOLUMES = query("paper_get_volumes", Traded)
_FORGET_VOLUMES = query("paper_forget_volumes")
_GET_TOKENS = query("paper_get_tokens", TokenRow)

MOST_PENDING = 2_000
"""How many waiting transactions are read at once."""

_UNKNOWN = TransactionStatus(TransactionState.UNKNOWN)


class Ledger:
    """The paper chain's tables.

    Args:
        database: PostgreSQL.
        clock: PostgreSQL's time.
        slot_ms: A new market's slot length.
    """

    def __init__(self, database: Database, clock: Clock, *, slot_ms: int = SLOT_MS) -> None:
        self._database = database
        self._clock = clock
        self.slot_ms = slot_ms
        """The length of a slot, once ``create_market`` has returned."""

    def slot_now(self) -> int:
        """Return the slot number: a function of PostgreSQL's time only."""
        return self.slot_at(self._clock.database_time())

    def seconds_to(self, slot: int) -> float:
        """Return the seconds until a slot begins; negative if it has begun."""
        return slot * self.slot_ms / 1000 - self._clock.database_time()

    def seconds_at(self, slot: int) -> int:
        """Return when a slot begins, in whole seconds since the Unix epoch."""
        return slot * self.slot_ms // 1000

    def slot_at(self, time_s: float) -> int:
        """Return the slot of a time, in seconds since the Unix epoch."""
        return int(time_s * 1000) // self.slot_ms

    def last_slot_by(self, time_s: float) -> int:
        """Return the last slot that ends by a time, in seconds since the Unix epoch."""
        return self.slot_at(time_s) - 1

    async def create_market(self, seed: int) -> tuple[int, int]:
        """Create the market with a seed, unless it exists; return its seed and its slot length in ms.

        From then on slots are counted in the market's own length.
        """
        [market] = await self._run(_CREATE_MARKET, {"seed": seed, "slot_ms": self.slot_ms})
        self.slot_ms = market.slot_ms
        return market.seed, market.slot_ms

    async def open_pools(self, pools: Iterable[PaperPool]) -> set[str]:
        """Create the pools that do not exist; return their ids."""
        rows = await self._run(_OPEN_POOLS, {"pools": json_of([pool_json.pool_row(pool) for pool in pools])})
        return {row[0] for row in rows}

    async def fund_wallets(self, epoch: int, wallets: Wallets) -> None:
        """Create the wallets that do not exist, and adjust those whose configured funding has changed."""
        rows = [
            {"owner": owner, "token": token, "funded": amount} for (owner, token), amount in wallets.items()
        ]
        await self._run(_FUND_WALLETS, {"wallets": json_of(rows), "epoch": epoch})

    async def pools(self, since: int) -> tuple[CommitId, list[PaperPool], set[str]]:
        """Return the pools that have changed since a commit, and the ids of all pools.

        Args:
            since: The number of the caller's last commit; -1 if it has none.

        Returns:
            The commit that the result belongs to; the changed pools; the ids of all pools.
        """
        rows = await self._run(_GET_POOLS, {"since": since})
        commit_id = CommitId(rows[0].epoch, rows[0].sequence) if rows else CommitId(0, 0)
        changed = [pool_of(row, row.state) for row in rows if row.state is not None]
        return commit_id, changed, {row.id for row in rows}

    async def wallets(self) -> dict[tuple[str, str], int]:
        """Return all balances, in base units by owner and token."""
        return {(row.owner, row.token): row.balance for row in await self._run(_GET_WALLETS)}

    async def balances(
        self, owner: str, limit: int, *, tokens: Collection[str] | None = None, after: str | None = None
    ) -> list[tuple[Token, Balance]]:
        """Return what a wallet holds, by token; tokens that it never held are left out.

        Args:
            owner: The wallet's owner: the user, whose transactions are those in flight.
            limit: The maximum number of balances.
            tokens: Of these tokens; None: of all.
            after: Of the tokens after this one; None: from the first.
        """
        parameters = {
            "slot_ms": self.slot_ms,
            "owner": owner,
            "tokens": None if tokens is None else list(tokens),
            "after": after,
            "limit": limit,
        }
        return list(map(held_of, await self._run(_GET_BALANCES, parameters)))

    async def commit_id(self) -> CommitId:
        """Return the market's latest commit."""
        [commit_id] = await self._run(_READ_LEADER)
        return commit_id

    async def submit(
        self, submissions: Sequence[Submission]
    ) -> tuple[list[TransactionStatus], list[Arrival]]:
        """Store transactions; return their states, and the new ones among them."""
        rows = [
            {
                "signature": t.signature,
                "order_id": t.order_id,
                "attempt": t.attempt,
                "token_in": t.token_in,
                "token_out": t.token_out,
                "maximum_in": t.maximum_in,
                "minimum_out": t.minimum_out,
                "last_valid_slot": t.last_valid_slot,
                "message": submission.message,
                "delay_ms": submission.delay_ms,
            }
            for submission in submissions
            for t in (submission.transaction,)
        ]
        stored = await self._run(_SUBMIT, {"rows": json_of(rows), "slot_ms": self.slot_ms})
        accepted = {row.signature: row.lands_slot for row in stored}
        transactions = [submission.transaction for submission in submissions]
        others = [t for t in transactions if t.signature not in accepted]
        known = dict(zip([t.signature for t in others], await self.statuses(others), strict=True))
        arrivals = [Arrival(t, accepted[t.signature]) for t in transactions if t.signature in accepted]
        return [known.get(t.signature, PENDING) for t in transactions], arrivals

    async def refuse(self, transaction: PaperTransaction) -> TransactionStatus:
        """Record a transaction as rejected, unless it already exists; return its state."""
        await self._run(
            _REFUSE,
            {
                "signature": transaction.signature,
                "order_id": transaction.order_id,
                "attempt": transaction.attempt,
                "last_valid_slot": transaction.last_valid_slot,
                "failure": FailureCode.TRANSACTION_REJECTED,
            },
        )
        [status] = await self.statuses([transaction])
        return status

    async def statuses(self, transactions: Collection[PaperTransaction]) -> list[TransactionStatus]:
        """Return the states of transactions; those that can no longer land become expired."""
        if not transactions:
            return []
        rows = [
            {
                "signature": t.signature,
                "order_id": t.order_id,
                "attempt": t.attempt,
                "last_valid_slot": t.last_valid_slot,
            }
            for t in transactions
        ]
        found = await self._run(_GET_STATUSES, {"rows": json_of(rows), "slot_ms": self.slot_ms})
        known = {row.signature: status_of(row) for row in found}
        return [known.get(transaction.signature, _UNKNOWN) for transaction in transactions]

    async def pending(self, since_slot: int = 0) -> list[Arrival]:
        """Return the transactions that wait to be executed, in landing order, ``MOST_PENDING`` at most.

        Args:
            since_slot: Those that land in an earlier slot are known.
        """
        return [
            Arrival(decode_message(row.signature, row.message), row.lands_slot)
            for row in await self._run(_FIND_PENDING, {"since_slot": since_slot, "most": MOST_PENDING})
        ]

    async def settle(self, epoch: int, group: Group) -> Settlement | None:
        """Commit a group with all its changes, or nothing.

        Args:
            epoch: The leader's epoch.
            group: The content of the commit.

        Returns:
            None if the epoch is over, or if one of the transactions or commands can no longer be executed.
        """
        rows = await self._run(
            _SETTLE,
            {
                "slot_ms": self.slot_ms,
                "epoch": epoch,
                "results": json_of(
                    [
                        {
                            "signature": execution.signature,
                            "status": "landed" if execution.failure is None else "failed",
                            "amount_in": execution.amount_in,
                            "amount_out": execution.amount_out,
                            "failure": execution.failure,
                            "residue": [
                                {"token": token, "amount": amount} for token, amount in execution.residue
                            ]
                            or None,
                        }
                        for execution in group.executions
                    ]
                ),
                "answers": json_of(
                    [{"id": command_id, "answer": answer} for command_id, answer in group.answers.items()]
                ),
                "pools": group.pools,
                "opened": group.opened,
                "closed": json_of(
                    [{"id": p.id, "vault_a": p.vault_a, "vault_b": p.vault_b} for p in group.closed]
                ),
                "tokens": json_of([asdict(token) for token in group.tokens]),
                "volumes": json_of([each._asdict() for each in group.traded]),
                "wallets": json_of(
                    [
                        {"owner": owner, "token": token, "balance": balance}
                        for (owner, token), balance in group.wallets.items()
                    ]
                ),
            },
        )
        if not rows:
            return None
        [row] = rows
        return Settlement(row.sequence, Landing(row.slot, row.at))

    async def traded_since(self, seconds: int) -> list[Traded]:
        """Return the volumes of the last ``seconds``."""
        return await self._run(_GET_VOLUMES, {"seconds": seconds, "slot_ms": self.slot_ms})

    async def forget_volumes(self, seconds: int) -> None:
        """Delete older volumes."""
        await self._run(_FORGET_VOLUMES, {"seconds": seconds})

    async def tokens(self, names: Collection[str]) -> list[Token]:
        """Return the listed tokens with these symbols, ignoring case, or these mints."""
        if not names:
            return []
        rows = await self._run(
            _GET_TOKENS, {"names": list(names), "folded": [name.lower() for name in names]}
        )
        return [Token(row.symbol, row.mint, row.decimals) for row in rows]

    async def _run(self, statement: Query[R], parameters: Parameters | None = None) -> list[R]:
        return await run(self._database, statement, parameters)


async def run(database: Database, statement: Query[R], parameters: Parameters | None = None) -> list[R]:
    """Run one of the venue's statements.

    Raises:
        VenueUnavailableError: PostgreSQL is unavailable.
    """
    try:
        return await database.run(statement, parameters)
    except UnavailableError as error:
        raise VenueUnavailableError(str(error)) from error


def json_of(rows: Sequence[Mapping[str, object]]) -> str:
    """Encode rows as one JSON array, as a parameter of a statement."""
    return orjson.dumps(rows).decode()
