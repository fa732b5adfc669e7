"""Quoting: gets the state of all relevant pools from both DEXs concurrently, then finds the best route.

A slow or failing DEX neither delays nor fails the order while the other answers; the quotes record that it
did not answer. However long a search takes, it yields to the event loop between its steps. Computed curves
are kept until their pools change.
"""

import asyncio
import inspect
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from service.chains.venue import MarketData, PoolRef, Snapshot, VenueUnavailableError
from service.clock import Clock
from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.quote import Choice, Dex, NoQuote, SwapMode
from service.routing import HUBS, NoRouteError, RouteLimits, find_route
from service.routing.hops import KeptHops, is_same
from service.routing.paths import PathFinder
from service.turns import Turns

log = logging.getLogger(__name__)

# Does not fail the order while another DEX can be read.
_CANNOT_READ = "cannot read the pools of a DEX"

# The number of pairs and modes whose curves are cached; those of one may take a megabyte.
_CACHED_PAIRS = 16

_Answer = Sequence[Snapshot] | None
"""None: the DEX did not answer."""


def pools_for(venue: MarketData, token_in: str, token_out: str) -> list[PoolRef]:
    """Return the pools that may trade a pair: the direct ones, and those of two-hop paths."""
    pools = list(venue.pools(token_in, token_out))
    for hub in HUBS:
        if hub not in {token_in, token_out}:
            first, second = venue.pools(token_in, hub), venue.pools(hub, token_out)
            if first and second:
                pools += (*first, *second)
    return pools


class Quoter:
    """Finds the best route for an amount on the current market.

    Args:
        venue: The source of pools.
        timeout_ms: How long each DEX may take to answer.
        limits: The limits of a route.
        clock: Measures how long a quote has blocked the event loop.
    """

    def __init__(self, venue: MarketData, *, timeout_ms: int, limits: RouteLimits, clock: Clock) -> None:
        self._venue = venue
        self._timeout_s = timeout_ms / 1000
        self._limits = limits
        self._turns = Turns(clock)
        self._hops = KeptHops()
        self._cached: dict[tuple[str, str, SwapMode], tuple[Sequence[Snapshot], PathFinder]] = {}

    async def best(
        self, mode: SwapMode, token_in: str, token_out: str, amount: int, *, within_s: float | None = None
    ) -> Choice:
        """Quote an amount of the token that the mode fixes, in base units.

        Args:
            mode: Which side ``amount`` fixes.
            token_in: The token sold.
            token_out: The token bought.
            amount: Base units.
            within_s: A shorter time for each DEX to answer.

        Raises:
            NoRouteError: No route can take the amount; the error has the quotes.
        """
        direct = self._venue.pools(token_in, token_out)
        by_dex: dict[Dex, list[PoolRef]] = defaultdict(list)
        for pool in pools_for(self._venue, token_in, token_out):
            by_dex[pool.dex].append(pool)
        timeout_s = self._timeout_s if within_s is None else max(0, min(self._timeout_s, within_s))
        answers = await self._read(by_dex, timeout_s)
        snapshots = [snapshot for answer in answers.values() for snapshot in answer or ()]
        unavailable = [
            NoQuote(pool.dex, pool.id, FailureCode.QUOTES_UNAVAILABLE)
            for pool in direct
            if answers[pool.dex] is None
        ]
        paths = self._paths_between(token_in, token_out, mode, snapshots)
        try:
            return await self._turns.run(find_route(amount, paths, unavailable))
        except NoRouteError as end:
            if end.failure.remedy is Remedy.NONE and None in answers.values():
                # A pool that could not be read may have a route.
                raise NoRouteError(Failure.of(FailureCode.QUOTES_UNAVAILABLE), end.quotes) from end
            raise

    async def best_of_latest(
        self,
        mode: SwapMode,
        token_in: str,
        token_out: str,
        amount: int,
        accept: Callable[[Choice], bool],
        *,
        within_s: float | None = None,
    ) -> Choice:
        """Quote like ``best``; if the choice is not accepted, refresh the market and quote again on changes.

        For orders that another instance fired, on market data that may not have arrived here yet.

        Raises:
            NoRouteError: See ``best``.
        """
        try:
            choice = await self.best(mode, token_in, token_out, amount, within_s=within_s)
        except NoRouteError:
            if not await self._refreshed():
                raise
        else:
            if accept(choice) or not await self._refreshed():
                return choice
        return await self.best(mode, token_in, token_out, amount, within_s=within_s)

    def _paths_between(
        self, token_in: str, token_out: str, mode: SwapMode, snapshots: Sequence[Snapshot]
    ) -> PathFinder:
        """Return the paths between two tokens, with their computed curves if no pool has changed."""
        key = token_in, token_out, mode
        known = self._cached.pop(key, None)
        if known is None or not _are_same(known[0], snapshots):
            previous = None if known is None else known[1]
            paths = PathFinder(
                token_in, token_out, snapshots, self._limits, mode, hops=self._hops, previous=previous
            )
            known = snapshots, paths
        # Ordered by use, the most recent last.
        self._cached[key] = known
        if len(self._cached) > _CACHED_PAIRS:
            del self._cached[next(iter(self._cached))]
        return known[1]

    async def _refreshed(self) -> bool:
        try:
            return await self._venue.refresh()
        except VenueUnavailableError:
            return False

    async def _read(self, by_dex: dict[Dex, list[PoolRef]], timeout_s: float) -> dict[Dex, _Answer]:
        answers: dict[Dex, _Answer] = dict.fromkeys(by_dex)
        reading: dict[Dex, asyncio.Future[Sequence[Snapshot]]] = {}
        for dex, pools in by_dex.items():
            answer = self._read_dex(pools)
            if inspect.isawaitable(answer):
                reading[dex] = asyncio.ensure_future(answer)
            else:
                answers[dex] = answer
        if reading:
            # Otherwise all states are in memory: no task and no yield to the event loop is needed.
            try:
                await asyncio.wait(reading.values(), timeout=timeout_s)
            finally:
                answers |= {dex: _result(task) for dex, task in reading.items()}
        return answers

    def _read_dex(self, pools: list[PoolRef]) -> _Answer | Awaitable[Sequence[Snapshot]]:
        try:
            return self._venue.snapshot(pools)
        except VenueUnavailableError:
            return None
        except Exception:
            log.exception(_CANNOT_READ)
            return None


def _result(reading: "asyncio.Future[Sequence[Snapshot]]") -> _Answer:
    """Return what was read; if it is not complete, cancel it."""
    if not reading.done():
        reading.cancel()
        return None
    try:
        return reading.result()
    except (VenueUnavailableError, asyncio.CancelledError):
        return None
    except Exception:
        log.exception(_CANNOT_READ)
        return None


def _are_same(some: Sequence[Snapshot], others: Sequence[Snapshot]) -> bool:
    """Whether both have the same pools, at the same moment, in the same state."""
    return len(some) == len(others) and all(map(is_same, some, others))
