"""The paper chain: one instance at a time executes transactions, slot by slot, in the order of landing.

The leader holds the market in memory. What is due executes as one group and one commit, which names the
leader's epoch: one that was stopped, and has been succeeded, lands nothing. Every commit is published with
its number, so that every instance quotes from memory; a follower that has missed one reads the ledger.
"""

import asyncio
import heapq
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import psycopg2

from service import crash_points
from service.background import Background
from service.clock import Clock
from service.domain.attempt import AttemptStatus, Landing
from service.domain.tokens import TOKENS, list_token
from service.events.redis_link import RedisLink
from service.events.subscription import Subscription
from service.settings import FailureRates, Range
from service.venues.paper import news
from service.venues.paper.ledger import (
    Arrival,
    Edition,
    Ledger,
    Submission,
    Wallets,
    in_full,
    json_of,
    settled,
)
from service.venues.paper.market import Execution, Market, PaperPool
from service.venues.paper.outcomes import Outcomes
from service.venues.paper.reference import REFERENCE_STEP_SLOTS
from service.venues.venue import MarketChange, OnMarketChange, PoolRef, Traded, VenueUnavailableError

log = logging.getLogger(__name__)

_LEASE_MS = 3_000
_CHECK_EVERY_S = 1.0
_PAUSE_AFTER_FAULT_S = 0.2
_FORGET_EVERY_S = 60.0

VOLUMES_KEPT_S = 3_600
"""For how long it is known what was traded."""


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """How the chain behaves.

    Attributes:
        seed: the market's, from which its prices and its luck follow.
        slot_ms: a slot's length.
        variance_ppm: how far apart the prices of the two DEXs lie.
        failure_rates: how many executions fail, for tests and demos.
        endowments: what each wallet is given, in base units.
        group_limit: how many transactions execute in one commit.
        longest_delay_ms: what a transaction takes to land at most.
        alone: no other instance can be leading.
    """

    seed: int
    slot_ms: int
    variance_ppm: Range
    failure_rates: FailureRates
    endowments: Wallets
    group_limit: int
    longest_delay_ms: int
    alone: bool


@dataclass(order=True, slots=True)
class _Due:
    """A transaction in the order of landing: by slot, then by arrival."""

    slot: int
    number: int
    arrival: Arrival = field(compare=False)


class Chain:
    """Executes what has been submitted, while it leads; follows while another does.

    Args:
        ledger: where pools and transactions are.
        clock: PostgreSQL's time.
        link: to the other instances.
        channel: the Redis channel that all instances share.
        settings: see there.
        on_change: told of every commit, as soon as it is quoted from here.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        link: RedisLink,
        *,
        channel: str,
        settings: ChainSettings,
        on_change: OnMarketChange,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._link = link
        self._channel = channel
        self._settings = settings
        self._id = clock.new_instance_id()
        self._news = Subscription(link.url, channel, clock, receive=self._receive, catch_up=self._catch_up)
        self._executor = Background("paper chain", self._run_for_ever, clock)
        self._outcomes = Outcomes()
        # As of which commit `pools` are.
        self._edition = Edition(0, 0)
        # While this instance leads: its epoch, the market ahead of its next commit, what is to execute.
        self._epoch: int | None = None
        self._market: Market | None = None
        self._moved_in = -1
        self._due: list[_Due] = []
        self._known: set[str] = set()
        self._arrivals = 0
        self._changed = asyncio.Event()
        self._next_check = 0.0
        self.pools: dict[str, PaperPool] = {}
        """Every pool as last committed, by id."""
        self._refs: dict[str, PoolRef] = {}
        self._refs_by_pair: dict[tuple[str, str], list[PoolRef]] = {}
        self._on_change = on_change
        self._next_forgetting = 0.0

    async def start(self) -> None:
        """Read the pools, lead if nobody does, and begin to execute."""
        await self._check()
        self._news.start()
        self._executor.start()

    async def stop(self) -> None:
        """Stop executing; what is pending is executed by the next leader."""
        epoch = self._epoch
        await self._news.stop()
        await self._executor.stop()
        self._epoch = None
        if epoch is not None:
            try:
                await self._ledger.resign(epoch)
            except VenueUnavailableError as error:
                log.debug("paper chain: the lease runs out by itself (%s)", error)

    @property
    def leading(self) -> bool:
        """Whether this instance executes."""
        return self._epoch is not None

    async def refresh(self) -> bool:
        """Read the pools, if the ledger has a commit that was not heard of; return whether it had."""
        if self._edition >= await self._ledger.edition():
            return False
        await self._read_pools()
        return True

    async def announce_listing(self) -> None:
        """See, and have the other instances see, that the ledger has a new pool."""
        await self._read_pools()
        self._tell_others(news.encode_listed())
        self._look_now()

    def refs(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools of a pair, in the order of their ids."""
        return self._refs_by_pair.get((token_in, token_out), ())

    def take_in(self, submissions: Sequence[Submission], arrivals: Sequence[Arrival]) -> None:
        """Have transactions executed that the ledger has just taken in."""
        if not arrivals:
            return
        if self.leading:
            self._push(arrivals)
        else:
            self._tell_others(news.encode_submitted(submissions, arrivals))

    async def outcome(self, signature: str, timeout_s: float) -> AttemptStatus | None:
        """Wait for a transaction to be settled; None when that is not heard of here in time."""
        return await self._outcomes.wait(signature, timeout_s)

    async def _run_for_ever(self) -> None:
        while True:
            try:
                await self._turn()
            except VenueUnavailableError as error:
                log.warning("paper chain: PostgreSQL is away (%s)", error, extra={"fault": "postgresql"})
                # Whether the last commit was made is unknown: begin anew from what the ledger has.
                self._follow()
                await self._clock.sleep(_PAUSE_AFTER_FAULT_S)
            except BaseException:
                self._follow()
                raise

    async def _turn(self) -> None:
        """Do what there is to do in this slot, or wait until there is something."""
        self._changed.clear()
        if self._clock.monotonic() >= self._next_check:
            await self._check()
        wait_s = self._next_check - self._clock.monotonic()
        if self._epoch is not None and self._market is not None:
            slot = self._ledger.slot_now()
            if await self._execute_due(self._epoch, self._market, slot):
                return
            next_move = (slot // REFERENCE_STEP_SLOTS + 1) * REFERENCE_STEP_SLOTS
            next_slot = min(next_move, self._due[0].slot) if self._due else next_move
            wait_s = min(wait_s, self._ledger.seconds_to(next_slot))
        try:
            async with asyncio.timeout(max(wait_s, 0)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _check(self) -> None:
        """Lead on, or take the lead if nobody has it; else see that nothing was missed."""
        self._next_check = self._clock.monotonic() + _CHECK_EVERY_S
        if self._epoch is not None:
            if await self._ledger.renew(self._epoch):
                self._push(await self._ledger.pending())
                await self._forget_volumes()
                return
            log.info("paper chain: the epoch is over")
            self._follow()
        edition = await self._ledger.lead(self._id, lease_ms=_LEASE_MS, alone=self._settings.alone)
        if edition is not None:
            await self._lead(edition)
        else:
            await self.refresh()

    async def _forget_volumes(self) -> None:
        if self._clock.monotonic() >= self._next_forgetting:
            self._next_forgetting = self._clock.monotonic() + _FORGET_EVERY_S
            await self._ledger.forget_volumes(VOLUMES_KEPT_S)

    async def _lead(self, edition: Edition) -> None:
        await self._ledger.endow(edition.epoch, self._settings.endowments)
        await self._begin_anew()
        self._due.clear()
        self._known.clear()
        self._moved_in = -1
        self._push(await self._ledger.pending())
        # Last: with it begins executing.
        self._epoch = edition.epoch
        log.info("paper chain: leading, epoch %d", edition.epoch)

    async def _begin_anew(self) -> None:
        """Take the market as the ledger has it."""
        settings = self._settings
        pools = await self._read_pools()
        self._market = Market(
            settings.seed,
            pools,
            await self._ledger.wallets(),
            clock=self._clock,
            slot_ms=settings.slot_ms,
            variance_ppm=settings.variance_ppm,
            failure_rates=settings.failure_rates,
        )

    def _follow(self) -> None:
        """Lead no more, unless the next check finds that nobody else does."""
        self._epoch = self._market = None
        self._next_check = 0.0

    async def _read_pools(self) -> list[PaperPool]:
        edition, pools = await self._ledger.pools()
        if any(pool.token_a not in TOKENS or pool.token_b not in TOKENS for pool in pools):
            for token in await self._ledger.tokens():
                list_token(token)
        self._take(edition, pools, complete=False)
        return pools

    def _take(
        self,
        edition: Edition,
        pools: Sequence[PaperPool],
        traded: Sequence[Traded] = (),
        *,
        complete: bool = True,
    ) -> None:
        """Quote from now on with pools as of a commit, unless a later one has been heard of meanwhile."""
        if edition < self._edition:
            return
        self._edition = edition
        for pool in pools:
            self.pools[pool.id] = pool
            if pool.id not in self._refs:
                self._list(pool)
        self._on_change(MarketChange(frozenset(pool.id for pool in pools), tuple(traded), complete))

    def _list(self, pool: PaperPool) -> None:
        ref = self._refs[pool.id] = PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b)
        for pair in ((pool.token_a, pool.token_b), (pool.token_b, pool.token_a)):
            # A new list: somebody may be reading the old one.
            refs = [*self._refs_by_pair.get(pair, ()), ref]
            self._refs_by_pair[pair] = sorted(refs, key=lambda each: each.id)

    async def _execute_due(self, epoch: int, market: Market, slot: int) -> bool:
        """Let the market's traders and all that is due act; return whether anything was to be done."""
        step = slot // REFERENCE_STEP_SLOTS
        if step != self._moved_in:
            self._moved_in = step
            market.move(slot)
        group = self._take_due(slot)
        return await self._execute(epoch, market, slot, group)

    def _take_due(self, slot: int) -> list[Arrival]:
        group: list[Arrival] = []
        while self._due and self._due[0].slot <= slot and len(group) < self._settings.group_limit:
            group.append(heapq.heappop(self._due).arrival)
        return group

    async def _execute(self, epoch: int, market: Market, slot: int, group: Sequence[Arrival]) -> bool:
        executions = [market.execute(arrival.transaction, slot) for arrival in group]
        changes = market.take_changes()
        if not (executions or changes.pools):
            return False
        pools = json_of([in_full(pool) for pool in changes.pools])
        second = market.now(slot).timestamp_s
        traded = [Traded(pool_id, second, *volumes) for pool_id, volumes in changes.volumes.items()]
        try:
            crash_points.reach("before settle")
            settlement = await self._ledger.settle(epoch, executions, pools, changes.wallets, traded)
            crash_points.reach("after settle")
        except psycopg2.Error as error:
            await self._settle_one_by_one(epoch, slot, group, error)
            return True
        if settlement is None:
            await self._reconsider(group)
            return True
        edition, landing = Edition(epoch, settlement.sequence), settlement.landing
        self._take(edition, changes.pools, traded)
        self._tell_others(news.encode_commit(edition, landing, pools, executions, traded))
        self._tell(executions, landing)
        return True

    async def _settle_one_by_one(
        self, epoch: int, slot: int, group: Sequence[Arrival], error: psycopg2.Error
    ) -> None:
        """Go on after PostgreSQL refused a group: one that cannot be booked must not hold the others."""
        await self._begin_anew()
        if self._market is not None and len(group) > 1:
            for arrival in group:
                await self._execute(epoch, self._market, slot, [arrival])
            return
        # Tried again with the next check, until it expires.
        for arrival in group:
            log.error("paper chain: %s cannot be booked: %s", arrival.transaction.signature, error)
            self._known.discard(arrival.transaction.signature)

    async def _reconsider(self, group: Sequence[Arrival]) -> None:
        """Go on after a commit that was not made: the epoch is over, or a transaction was not pending."""
        self._follow()
        transactions = [arrival.transaction for arrival in group]
        for transaction, status in zip(transactions, await self._ledger.ask(transactions), strict=True):
            if status.final:
                self._outcomes.tell(transaction.signature, status)

    def _push(self, arrivals: Iterable[Arrival]) -> None:
        latest = self._ledger.slot_now() + self._settings.longest_delay_ms // self._settings.slot_ms + 2
        for arrival in arrivals:
            if arrival.transaction.signature in self._known:
                continue
            self._known.add(arrival.transaction.signature)
            self._arrivals += 1
            # One that was submitted when slots had another length waits no longer than any.
            slot = min(arrival.lands_slot, latest)
            heapq.heappush(self._due, _Due(slot, self._arrivals, arrival))
        self._changed.set()

    def _tell(self, executions: Iterable[Execution], landing: Landing) -> None:
        for execution in executions:
            self._known.discard(execution.signature)
            self._outcomes.tell(execution.signature, settled(execution, landing))

    def _tell_others(self, message: bytes) -> None:
        self._link.send("PUBLISH", self._channel, self._id.encode() + message)

    def _receive(self, message: bytes) -> None:
        """Take another instance's news."""
        if message.startswith(self._id.encode()):
            return
        try:
            told = news.decode(message[len(self._id) :])
        except (ValueError, TypeError, LookupError) as error:
            log.warning("paper chain: a message that is not one of ours (%s)", error, extra={"fault": "news"})
            return
        if isinstance(told, news.Submitted):
            if self.leading:
                self._push(told.arrivals)
            return
        if isinstance(told, news.Listed):
            self._look_now()
            return
        self._tell(told.executions, told.landing)
        if told.edition == (self._edition.epoch, self._edition.sequence + 1):
            self._take(told.edition, told.pools, told.traded)
        elif told.edition > self._edition:
            self._look_now()

    async def _catch_up(self) -> None:
        self._look_now()

    def _look_now(self) -> None:
        """Something may have been missed: see what the ledger has."""
        self._next_check = 0.0
        self._changed.set()
