"""What the leader of the paper market does: it executes what is due, a group and a commit at a time.

It holds the market in memory, ahead of the next commit. When that is not made, it takes the market again as
the ledger has it: nothing that was done in memory counts.
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
from service.chains.paper.ledger import Ledger, json_of
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

# In one commit, so that transactions need not wait for long.
_MOST_COMMANDS = 8

OnSettled = Callable[[CommitId, Landing, Group, Sequence[PaperPool]], None]
"""Told of a commit: its number, when it landed, what it holds, and the pools that are other, or new. Must not
wait."""

OnFinal = Callable[[str, TransactionStatus], None]
"""Told what became of a transaction, by its signature, when the ledger knows it. Must not wait."""


class EpochOverError(Exception):
    """Another instance leads now."""


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """How the chain behaves.

    Attributes:
        seed: The market's, from which its prices and its luck follow.
        slot_ms: A slot's length.
        variance_ppm: How far apart the prices of the two DEXs lie.
        failure_rates: How many executions fail, for tests and demos.
        funds: What each wallet is given, in base units.
        group_limit: How many transactions execute in one commit.
        longest_delay_ms: What a transaction takes to land at most.
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
        epoch: Names the leader in every commit.
        ledger: Where pools and transactions are.
        commands: What waits to be done with pools.
        catalogue: The pools as last committed.
        clock: PostgreSQL's time.
        settings: See there.
        on_settled: See there.
        on_final: See there.
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
        # So many commands are executed one at a time: PostgreSQL has refused them together.
        self._alone = 0
        self._due: list[_Due] = []
        self._known: set[str] = set()
        self._arrivals = 0
        self.market = self._market_of({})
        """The market, ahead of its next commit."""

    async def begin(self) -> None:
        """Take the market, and what waits, as the ledger has them."""
        await self._begin_anew()
        await self.look()

    async def look(self) -> None:
        """See what waits in the ledger: its news may have been lost."""
        self._commands_wait = True
        self.push(await self._ledger.pending())

    def look_for_commands(self) -> None:
        """Have the commands executed, in the next turn, that the ledger has."""
        self._commands_wait = True

    def seconds_to_next(self) -> float:
        """Return how long it is until there is something to do, unless something arrives."""
        slot = self._ledger.slot_now()
        next_slot = (slot // REFERENCE_STEP_SLOTS + 1) * REFERENCE_STEP_SLOTS
        if self._due:
            next_slot = min(next_slot, self._due[0].slot)
        return self._ledger.seconds_to(next_slot)

    async def turn(self) -> bool:
        """Let the market's traders and all that is due act; return whether anything was to be done.

        Raises:
            EpochOverError: Nothing more can be committed.
            VenueUnavailableError: Whether the last commit was made is unknown.
        """
        commands, known = await self._waiting_commands()
        slot = self._ledger.slot_now()
        self.market.move(slot)
        group, lapsed = self._take_due(slot)
        if lapsed:
            await self._tell_final(lapsed)
        return await self._execute(slot, group, commands, known)

    def push(self, arrivals: Iterable[Arrival]) -> None:
        """Have transactions executed that wait in the ledger; those that are known already stay once."""
        latest = self._ledger.slot_now() + self._settings.longest_delay_ms // self._settings.slot_ms + 2
        for arrival in arrivals:
            if arrival.transaction.signature in self._known:
                continue
            self._known.add(arrival.transaction.signature)
            self._arrivals += 1
            # One that was submitted when slots had another length waits no longer than any.
            slot = min(arrival.lands_slot, latest)
            heapq.heappush(self._due, _Due(slot, self._arrivals, arrival))

    async def _begin_anew(self) -> None:
        """Take the market as the ledger has it: what has changed is read, the rest is at hand."""
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
        """Return the next commands, and the tokens that have the symbols which they name."""
        if not self._commands_wait:
            return [], []
        self._commands_wait = False
        limit = 1 if self._alone else _MOST_COMMANDS
        self._alone = max(self._alone - 1, 0)
        commands = await self._commands.waiting(limit)
        # One that is asked for meanwhile says so.
        self._commands_wait = self._commands_wait or len(commands) == limit
        symbols = {
            token.symbol
            for each in commands
            if isinstance(each.wanted, ListPool)
            for token in each.wanted.tokens
        }
        listed = await self._ledger.tokens(symbols - PRICES.keys())
        return commands, [*listed, *(TOKENS[symbol] for symbol in PRICES)]

    def _take_due(self, slot: int) -> tuple[list[Arrival], list[PaperTransaction]]:
        """Return what is to be executed in a slot, and what can land no more."""
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
            self._known.discard(execution.signature)
        commit_id = CommitId(self.epoch, settlement.sequence)
        self._on_settled(commit_id, settlement.landing, group, pools)

    async def _settle_one_by_one(
        self,
        slot: int,
        group: Sequence[Arrival],
        commands: Sequence[Command],
        error: psycopg2.Error,
    ) -> None:
        """Go on after PostgreSQL refused a group: one that cannot be booked must not hold the others."""
        await self._begin_anew()
        if len(group) + len(commands) > 1:
            for arrival in group:
                await self._execute(slot, [arrival])
            self._alone, self._commands_wait = len(commands), bool(commands)
            return
        # Tried again with the next check, until it expires.
        for arrival in group:
            log.error("paper chain: %s cannot be booked: %s", arrival.transaction.signature, error)
            self._known.discard(arrival.transaction.signature)
        for command in commands:
            log.error("paper chain: command %s cannot be booked: %s", command.id, error)
            refusal = Group([], {command.id: Verdict.REFUSED}, "[]", "[]", [], [], {}, [])
            settlement = await self._ledger.settle(self.epoch, refusal)
            if settlement is not None:
                self._settled(settlement, refusal, [])

    async def _reconsider(self, group: Sequence[Arrival]) -> None:
        """Go on after a commit that was not made: the epoch is over, or something was not pending."""
        transactions = [arrival.transaction for arrival in group]
        final = await self._tell_final(transactions)
        self._commands_wait = True
        if (await self._ledger.commit_id()).epoch != self.epoch:
            raise EpochOverError
        # What was done in memory was not committed.
        await self._begin_anew()
        for transaction in transactions:
            self._known.discard(transaction.signature)
        self.push(arrival for arrival in group if arrival.transaction.signature not in final)

    async def _tell_final(self, transactions: Sequence[PaperTransaction]) -> set[str]:
        """Tell what the ledger knows for good of transactions; return of which it does."""
        final = set()
        for transaction, status in zip(transactions, await self._ledger.ask(transactions), strict=True):
            self._known.discard(transaction.signature)
            if status.final:
                final.add(transaction.signature)
                self._on_final(transaction.signature, status)
        return final
