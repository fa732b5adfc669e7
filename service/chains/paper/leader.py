"""The leader of the paper market: executes due transactions and commands, one group per commit.

Its market in memory is ahead of the ledger until the next commit. If the commit fails, it reloads the market
from the ledger and discards its changes in memory.
"""

import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import psycopg2

from service import crash_points
from service.chains.paper.catalogue import Catalogue
from service.chains.paper.command_queue import CommandQueue
from service.chains.paper.commands import Command, ListPool, Registrar, Verdict
from service.chains.paper.ledger import MOST_PENDING, Ledger, json_of
from service.chains.paper.market import Market
from service.chains.paper.pool import PaperPool
from service.chains.paper.pool_json import pool_row
from service.chains.paper.records import Arrival, CommitId, Group, Settlement, Wallets
from service.chains.paper.reference import PRICES, REFERENCE_STEP_SLOTS
from service.chains.paper.transaction import PaperTransaction
from service.chains.venue import Traded
from service.clock import Clock
from service.domain.tokens import TOKENS, Token
from service.domain.transaction import Landing, TransactionStatus
from service.settings import FailureRates, Range

log = logging.getLogger(__name__)

# Longer than a statement that adds transactions may run.
_ADDED_WITHIN_MS = 60_000
# Maximum number of commands in one commit, so that transactions do not wait for long.
_MOST_COMMANDS = 8

OnSettled = Callable[[CommitId, Landing, Group, Sequence[PaperPool]], None]
"""Called with a commit's id, landing and content, and with the changed and new pools. Must not block."""

OnFinal = Callable[[str, TransactionStatus], None]
"""Called with a transaction's signature and final state from the ledger. Must not block."""


class EpochOverError(Exception):
    """Another instance leads now."""


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The chain's settings.

    Attributes:
        seed: The market's seed, which determines its prices and failures.
        slot_ms: A slot's length.
        variance_ppm: The spread between the two DEXs' prices.
        failure_rates: How many executions fail, for tests and demos.
        funds: Each wallet's funding, in base units.
        group_limit: Maximum number of transactions in one commit.
        longest_delay_ms: Maximum time that a transaction takes to land.
    """

    seed: int
    slot_ms: int
    variance_ppm: Range
    failure_rates: FailureRates
    funds: Wallets
    group_limit: int
    longest_delay_ms: int


@dataclass(order=True, slots=True)
class _Due:
    """A transaction in the order of landing: by slot, then by arrival."""

    slot: int
    number: int
    arrival: Arrival = field(compare=False)


class Leader:
    """Executes transactions and commands in one epoch, from ``begin`` on.

    Args:
        epoch: The leader's epoch, part of every commit.
        ledger: The pools and transactions.
        commands: The queue of commands.
        catalogue: The pools as last committed.
        clock: PostgreSQL's time.
        settings: See ``ChainSettings``.
        on_settled: See ``OnSettled``.
        on_final: See ``OnFinal``.
    """

    def __init__(
        self,
        epoch: int,
        ledger: Ledger,
        commands: CommandQueue,
        catalogue: Catalogue,
        clock: Clock,
        settings: ChainSettings,
        *,
        on_settled: OnSettled,
        on_final: OnFinal,
    ) -> None:
        self.epoch = epoch
        self._ledger = ledger
        self._commands = commands
        self._catalogue = catalogue
        self._clock = clock
        self._settings = settings
        self._on_settled = on_settled
        self._on_final = on_final
        self._commands_wait = False
        # How many commands to execute one at a time, after PostgreSQL rejected them as a group.
        self._one_by_one = 0
        self._due: list[_Due] = []
        # The signatures of the transactions that are queued or being executed.
        self._queued: set[str] = set()
        self._arrivals = 0
        self._slot = 0
        # The waiting transactions that land in earlier slots are queued, or done.
        self._pending_since = 0
        self.market = self._market_of({})
        """The market, ahead of its next commit."""

    async def begin(self) -> None:
        """Load the market, and the waiting transactions and commands, from the ledger."""
        await self._reload_market()
        await self.load_waiting()

    async def load_waiting(self) -> None:
        """Load waiting transactions and commands from the ledger, since messages may have been lost."""
        self._commands_wait = True
        slot = self._ledger.slot_now()
        waiting = await self._ledger.pending(self._pending_since)
        self.push(waiting)
        if len(waiting) < MOST_PENDING:
            # One that is being added lands in the slot of its statement's beginning, or later.
            self._pending_since = slot - _ADDED_WITHIN_MS // self._settings.slot_ms

    def look_for_commands(self) -> None:
        """Execute the waiting commands in the next turn."""
        self._commands_wait = True

    def seconds_to_next(self) -> float:
        """Return how long there is nothing to do, unless something arrives."""
        slot = self._ledger.slot_now()
        next_slot = (slot // REFERENCE_STEP_SLOTS + 1) * REFERENCE_STEP_SLOTS
        if self._due:
            next_slot = min(next_slot, self._due[0].slot)
        return self._ledger.seconds_to(next_slot)

    async def turn(self) -> bool:
        """Move the market's traders and execute everything due; return whether there was anything to do.

        Raises:
            EpochOverError: Another instance leads; nothing more can be committed.
            VenueUnavailableError: The outcome of the last commit is unknown.
        """
        commands, known = await self._waiting_commands()
        slot = self._ledger.slot_now()
        if slot < self._slot:
            # PostgreSQL's clock has jumped back.
            self._bound_waits()
        self._slot = slot
        self.market.move(slot)
        group, lapsed = self._take_due(slot)
        if lapsed:
            await self._deliver_final(lapsed)
        return await self._execute(slot, group, commands, known)

    def push(self, arrivals: Iterable[Arrival]) -> None:
        """Queue transactions that wait in the ledger; those already queued are ignored."""
        latest = self._latest_slot()
        for arrival in arrivals:
            if arrival.transaction.signature in self._queued:
                continue
            self._queued.add(arrival.transaction.signature)
            self._arrivals += 1
            # The maximum bounds the wait of a transaction whose slot lies too far in the future.
            slot = min(arrival.lands_slot, latest)
            heapq.heappush(self._due, _Due(slot, self._arrivals, arrival))

    def _latest_slot(self) -> int:
        """Return the last slot in which a transaction that is submitted now may land."""
        return self._ledger.slot_now() + self._settings.longest_delay_ms // self._settings.slot_ms + 2

    def _bound_waits(self) -> None:
        """Let no queued transaction wait longer than one that is submitted now."""
        latest = self._latest_slot()
        for due in self._due:
            due.slot = min(due.slot, latest)
        heapq.heapify(self._due)
        self._pending_since = 0

    async def _reload_market(self) -> None:
        """Reload the market from the ledger; only changed pools are read."""
        await self._catalogue.read()
        self.market = self._market_of(await self._ledger.wallets())

    def _market_of(self, wallets: Wallets) -> Market:
        settings = self._settings
        return Market(
            settings.seed,
            self._catalogue.pools.values(),
            wallets,
            clock=self._clock,
            slot_ms=settings.slot_ms,
            variance_ppm=settings.variance_ppm,
            failure_rates=settings.failure_rates,
        )

    async def _waiting_commands(self) -> tuple[list[Command], list[Token]]:
        """Return the next commands, and the existing tokens with the symbols that they name."""
        if not self._commands_wait:
            return [], []
        self._commands_wait = False
        limit = 1 if self._one_by_one else _MOST_COMMANDS
        self._one_by_one = max(self._one_by_one - 1, 0)
        commands = await self._commands.waiting(limit)
        # A command that arrives during the read sets the flag again.
        self._commands_wait = self._commands_wait or len(commands) == limit
        names = {
            name
            for each in commands
            if isinstance(each.wanted, ListPool)
            for token in each.wanted.tokens
            for name in (token.symbol, token.mint)
        }
        listed = await self._ledger.tokens(names - PRICES.keys())
        return commands, [*listed, *(TOKENS[symbol] for symbol in PRICES)]

    def _take_due(self, slot: int) -> tuple[list[Arrival], list[PaperTransaction]]:
        """Return the transactions to execute in a slot, and those that can no longer land."""
        group: list[Arrival] = []
        lapsed: list[PaperTransaction] = []
        while self._due and self._due[0].slot <= slot and len(group) < self._settings.group_limit:
            arrival = heapq.heappop(self._due).arrival
            if arrival.transaction.last_valid_slot < slot:
                lapsed.append(arrival.transaction)
            else:
                group.append(arrival)
        return group, lapsed

    async def _execute(
        self,
        slot: int,
        group: Sequence[Arrival],
        commands: Sequence[Command] = (),
        known: Sequence[Token] = (),
    ) -> bool:
        market = self.market
        executions = [market.execute(arrival.transaction, slot) for arrival in group]
        registrar = Registrar(market, known)
        answers = registrar.execute(commands, slot)
        self._commands_wait = self._commands_wait or len(answers) < len(commands)
        changes = market.take_changes()
        if not (executions or answers or changes.pools):
            return False
        second = market.now(slot).timestamp_s
        done = Group(
            executions,
            answers,
            json_of([pool_row(pool) for pool in changes.pools]),
            json_of([pool_row(pool) for pool in changes.opened]),
            changes.closed,
            registrar.new_tokens,
            changes.wallets,
            [Traded(pool_id, second, *volumes) for pool_id, volumes in changes.volumes.items()],
        )
        try:
            crash_points.reach("before settle")
            settlement = await self._ledger.settle(self.epoch, done)
            crash_points.reach("after settle")
        except psycopg2.Error as error:
            await self._settle_one_by_one(slot, group, commands, error)
            return True
        if settlement is None:
            await self._reconsider(group)
            return True
        self._settled(settlement, done, [*changes.pools, *changes.opened])
        return True

    def _settled(self, settlement: Settlement, group: Group, pools: Sequence[PaperPool]) -> None:
        for execution in group.executions:
            self._queued.discard(execution.signature)
        commit_id = CommitId(self.epoch, settlement.sequence)
        self._on_settled(commit_id, settlement.landing, group, pools)

    async def _settle_one_by_one(
        self,
        slot: int,
        group: Sequence[Arrival],
        commands: Sequence[Command],
        error: psycopg2.Error,
    ) -> None:
        """Recover after PostgreSQL rejected a group: one bad row must not block the others."""
        await self._reload_market()
        if len(group) + len(commands) > 1:
            for arrival in group:
                await self._execute(slot, [arrival])
            self._one_by_one, self._commands_wait = len(commands), bool(commands)
            return
        # A transaction is retried with the next check, until it expires.
        for arrival in group:
            log.error("paper chain: cannot commit %s: %s", arrival.transaction.signature, error)
            self._queued.discard(arrival.transaction.signature)
            self._pending_since = 0
        for command in commands:
            log.error("paper chain: cannot commit command %s: %s", command.id, error)
            refusal = Group([], {command.id: Verdict.REFUSED}, "[]", "[]", [], [], {}, [])
            settlement = await self._ledger.settle(self.epoch, refusal)
            if settlement is not None:
                self._settled(settlement, refusal, [])

    async def _reconsider(self, group: Sequence[Arrival]) -> None:
        """Recover after a commit was rejected: the epoch is over, or some item was not pending."""
        transactions = [arrival.transaction for arrival in group]
        final = await self._deliver_final(transactions)
        self._commands_wait = True
        if (await self._ledger.commit_id()).epoch != self.epoch:
            raise EpochOverError
        # Discard the changes in memory.
        await self._reload_market()
        for transaction in transactions:
            self._queued.discard(transaction.signature)
        self.push(arrival for arrival in group if arrival.transaction.signature not in final)

    async def _deliver_final(self, transactions: Sequence[PaperTransaction]) -> set[str]:
        """Deliver the final states of transactions; return the signatures of those that have one."""
        final = set()
        for transaction, status in zip(transactions, await self._ledger.statuses(transactions), strict=True):
            self._queued.discard(transaction.signature)
            if status.final:
                final.add(transaction.signature)
                self._on_final(transaction.signature, status)
            else:
                self._pending_since = 0
        return final
