"""The market feed: the prices and best quotes of watched pairs, computed once for all their watchers.

The market is known from memory on every instance, leader or follower. Changes within one interval are taken
together, and a watcher gets only the newest state of a pair, so that it never falls behind. Nothing is
computed for pairs without watchers, nor while nothing changes.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from service.amm import Ratio
from service.background import Background
from service.chains.venue import MarketChange, MarketData, Snapshot
from service.clock import Clock
from service.domain.failures import FailureCode
from service.domain.quote import Route
from service.routing import NoRouteError, RouteLimits, find_route
from service.routing.changes import Pair, PairChanges
from service.routing.paths import PathFinder
from service.routing.quoting import pools_for
from service.turns import Turns

# Of the time, at most a fifth is spent on states: a round is followed by a pause of four times its length.
_PAUSE_PER_ROUND = 4


class TooManyQuotesError(Exception):
    """As many pairs and amounts are watched on this instance as may be."""


class QuotedPair(NamedTuple):
    """A pair, and the amount of the token sold that is quoted, in base units."""

    token_in: str
    token_out: str
    amount: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PairState:
    """A pair's price and best quote at one moment.

    Attributes:
        quoted: The pair and the amount.
        sequence: Counts the states since the pair and the amount have watchers, from 1.
        price: The marginal price, net of fees, in base units; None: no pool trades the pair.
        route: The best route for the amount; None: no route takes it.
        reason: Why there is no route.
        slot: The slot for which it was quoted.
        at: When that was, in seconds since the Unix epoch, by PostgreSQL's clock.
    """

    quoted: QuotedPair
    sequence: int
    price: Ratio | None
    route: Route | None
    reason: FailureCode | None
    slot: int
    at: float


class _Watched:
    """A pair and an amount that have watchers."""

    def __init__(self) -> None:
        self.watches: set[MarketWatch] = set()
        self.state: PairState | None = None


class MarketWatch:
    """One watcher's newest states. Use it as a context manager, so that the watch is always released."""

    def __init__(self, feed: "MarketFeed", quoted: Sequence[QuotedPair]) -> None:
        self._feed = feed
        self.quoted = quoted
        # Conflated: a newer state replaces one that was not taken.
        self._newest: dict[QuotedPair, PairState] = {}
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._feed._leave(self)  # noqa: SLF001 - MarketFeed and MarketWatch belong together

    async def next(self) -> list[PairState]:
        """Wait for new states, and return the newest of each pair that has one, in the order asked for.

        The first call returns the states of all pairs.
        """
        await self._changed.wait()
        self._changed.clear()
        if self._error is not None:
            raise self._error
        newest, self._newest = self._newest, {}
        return [newest[quoted] for quoted in self.quoted if quoted in newest]

    def push(self, state: PairState) -> None:
        """Add a new state."""
        self._newest[state.quoted] = state
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Make ``next`` raise an error."""
        self._error = error
        self._changed.set()


class MarketFeed:
    """The pairs that are watched on this instance.

    Args:
        venue: The market, in memory.
        clock: Times the intervals; PostgreSQL's time.
        limits: The limits of a route.
        every_ms: How often a pair's state may be computed.
        most_quotes: How many different pairs and amounts may be watched.
    """

    def __init__(
        self, venue: MarketData, clock: Clock, limits: RouteLimits, *, every_ms: int, most_quotes: int
    ) -> None:
        self._venue = venue
        self._clock = clock
        self._limits = limits
        self._every_s = every_ms / 1000
        self._most_quotes = most_quotes
        self._turns = Turns(clock)
        self._changes = PairChanges(venue)
        self._watched: dict[QuotedPair, _Watched] = {}
        self._computing = asyncio.Lock()
        self._moved = asyncio.Event()
        self._loop = Background("market feed", self._run_forever, clock)
        self.quotes = 0
        """How many quotes were computed."""

    @property
    def watched(self) -> int:
        """How many different pairs and amounts are watched."""
        return len(self._watched)

    def start(self) -> None:
        """Begin to follow the market."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop following it."""
        await self._loop.stop()

    def apply(self, change: MarketChange) -> None:
        """Apply a change of the market."""
        if self._watched:
            self._changes.add(change)
            self._moved.set()

    def has_pools(self, quoted: QuotedPair) -> bool:
        """Return whether any pool may trade a pair, directly or through a hub."""
        return bool(pools_for(self._venue, quoted.token_in, quoted.token_out))

    async def watch(self, quoted: Sequence[QuotedPair]) -> MarketWatch:
        """Begin to watch different pairs; their current states are ready when this returns.

        Raises:
            TooManyQuotesError: No more may be watched on this instance.
        """
        if len(self._watched.keys() | set(quoted)) > self._most_quotes:
            raise TooManyQuotesError
        watch = MarketWatch(self, quoted)
        for each in quoted:
            self._watched.setdefault(each, _Watched()).watches.add(watch)
        try:
            async with self._computing:
                for each in quoted:
                    state = self._watched[each].state
                    if state is None:
                        await self._compute((each.token_in, each.token_out), [each])
                    else:
                        watch.push(state)
        except BaseException:
            self._leave(watch)
            raise
        return watch

    def _leave(self, watch: MarketWatch) -> None:
        for quoted in watch.quoted:
            watched = self._watched[quoted]
            watched.watches.discard(watch)
            if not watched.watches:
                del self._watched[quoted]
        if not self._watched:
            # Changes are not followed from here on.
            self._changes.restart()

    async def _run_forever(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            async with self._computing:
                began = self._clock.monotonic()
                await self._compute_changed()
                took_s = self._clock.monotonic() - began
            await self._clock.sleep(max(self._every_s, _PAUSE_PER_ROUND * took_s))

    async def _compute_changed(self) -> None:
        """Compute the states of the pairs that have changed."""
        pairs: dict[Pair, list[QuotedPair]] = {}
        for quoted in self._watched:
            pairs.setdefault((quoted.token_in, quoted.token_out), []).append(quoted)
        moved, _others = self._changes.pop(pairs)
        for pair in moved:
            try:
                await self._compute(pair, pairs[pair])
            except Exception as error:  # noqa: BLE001 - raised to the watchers
                self._fail(pairs[pair], error)

    async def _compute(self, pair: Pair, amounts: Iterable[QuotedPair]) -> None:
        """Compute a pair's state for some amounts, and give it to the watchers."""
        snapshots = self._venue.local_snapshots(pools_for(self._venue, *pair))
        slot, at = self._slot(snapshots), self._clock.database_time()
        paths = PathFinder(*pair, snapshots, self._limits)
        price = await self._turns.run(paths.marginal_price())
        for quoted in amounts:
            watched = self._watched.get(quoted)
            if watched is None:
                continue
            route, reason = await self._route(paths, quoted.amount)
            sequence = 1 if watched.state is None else watched.state.sequence + 1
            watched.state = PairState(quoted, sequence, price, route, reason, slot, at)
            for watch in watched.watches:
                watch.push(watched.state)
            # Short computations do not yield to the event loop, but many of them may follow each other.
            await asyncio.sleep(0)

    def _slot(self, snapshots: Sequence[Snapshot]) -> int:
        slots = (snapshot.now.slot for snapshot in snapshots)
        return next((slot for slot in slots if slot is not None), None) or self._venue.all_views()[0]

    async def _route(self, paths: PathFinder, amount: int) -> tuple[Route | None, FailureCode | None]:
        self.quotes += 1
        try:
            return (await self._turns.run(find_route(amount, paths, ()))).route, None
        except NoRouteError as end:
            return None, end.failure.code

    def _fail(self, amounts: Iterable[QuotedPair], error: Exception) -> None:
        for quoted in amounts:
            for watch in self._watched[quoted].watches if quoted in self._watched else ():
                watch.fail(error)
