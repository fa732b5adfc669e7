"""The triggers' view of the market: the changed pairs, and a pair's prices and facts, from memory."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from service.amm import Ratio
from service.chains.venue import MarketChange, MarketData, Snapshot, Traded
from service.clock import Clock
from service.domain.conditions import LONGEST_VOLUME_S, PairFacts
from service.domain.tokens import TOKENS
from service.routing import RouteLimits, marginal_price
from service.routing.changes import Pair, PairChanges
from service.routing.prices import MarketPrices
from service.routing.quoting import pools_for
from service.triggers.facts import PairPools, VolumeTape, facts_of

_DOLLAR = "USDC"
_LOAD_EVERY_S = 1.0


class MarketView:
    """Collects changes of the market, and returns a pair's current prices and facts.

    Args:
        venue: Provides the market data.
        clock: PostgreSQL's time.
        limits: The limits of a route.
    """

    def __init__(self, venue: MarketData, clock: Clock, limits: RouteLimits) -> None:
        self._venue = venue
        self._clock = clock
        self._limits = limits
        self._tapes: dict[str, VolumeTape] = defaultdict(VolumeTape)
        # Trades received while past trades are being read.
        self._arrived: list[Traded] | None = None
        self._changes = PairChanges(venue)
        self._trades_missed = False
        self._next_load = 0.0

    @property
    def slot_ms(self) -> int:
        """The length of a slot in milliseconds, as far as it is known now."""
        return self._venue.slot_ms

    @property
    def changed(self) -> bool:
        """Whether there are changes that ``pop_changed`` has not returned yet."""
        return self._changes.waiting

    @property
    def must_load_trades(self) -> bool:
        """Whether trades were missed and ``load_trades`` may read them now, at most once per second."""
        return self._trades_missed and self._clock.monotonic() >= self._next_load

    async def begin(self) -> None:
        """Load the market; ``apply`` must receive its changes from before this call on.

        Raises:
            VenueUnavailableError: The venue is unavailable.
        """
        await self.load_trades()
        _slot, views = self._venue.all_views()
        self._changes.restart(view.pool.id for view in views)

    async def load_trades(self) -> None:
        """Read the trades of the last hour.

        Raises:
            VenueUnavailableError: The venue is unavailable.
        """
        self._trades_missed = False
        # The result may have eighty thousand rows.
        self._next_load = self._clock.monotonic() + _LOAD_EVERY_S
        arrived: list[Traded] = []
        self._arrived = arrived
        try:
            loaded = await self._venue.traded_since(LONGEST_VOLUME_S)
        except BaseException:
            self._trades_missed = True
            raise
        finally:
            self._arrived = None
        known = {(traded.pool_id, traded.second) for traded in loaded}
        since = [traded for traded in arrived if (traded.pool_id, traded.second) not in known]
        self._tapes.clear()
        self._add_volumes(sorted([*loaded, *since], key=lambda traded: traded.second))

    def apply(self, change: MarketChange, *, watching: bool) -> None:
        """Record a change.

        Args:
            change: The change, as reported by the venue.
            watching: Whether ``pop_changed`` is being called; if not, pool changes would only accumulate.
        """
        self._trades_missed = self._trades_missed or not change.complete
        self._changes.add(change, read=watching)
        for pool in change.added_or_removed:
            # Trades in an earlier pool with this id do not count for this one.
            self._tapes.pop(pool.id, None)
        if self._arrived is not None:
            self._arrived.extend(change.traded)
        self._add_volumes(change.traded)

    def _add_volumes(self, trades: Iterable[Traded]) -> None:
        for traded in trades:
            self._tapes[traded.pool_id].add(traded.second, traded.volume_a, traded.volume_b)

    def mark_changed(self, pair: Pair) -> None:
        """Mark a pair as changed."""
        self._changes.mark(pair)

    def pop_changed(self, pairs: Collection[Pair]) -> tuple[set[Pair], set[Pair]]:
        """Return the pairs that changed since the last call, and those whose set of pools has changed."""
        return self._changes.pop(pairs)

    def has_changed(self, pair: Pair) -> bool:
        """Return whether ``pop_changed`` would return this pair."""
        return self._changes.has_changed(pair)

    def prices(self, pair: Pair) -> MarketPrices:
        """Return a pair's current prices."""
        return MarketPrices(*pair, self._snapshots(pair), self._limits)

    def facts(self, pair: Pair) -> PairFacts | None:
        """Return the facts to check sniper conditions against; None while a token of the pair is unlisted."""
        token_in, token_out = pair
        if token_in not in TOKENS or token_out not in TOKENS:
            return None
        known = PairPools(
            token_in,
            token_out,
            TOKENS[token_in].decimals,
            TOKENS[token_out].decimals,
            self._venue.views(self._venue.pools(*pair)),
            self._tapes,
        )
        in_dollars = None if token_in == _DOLLAR else self._price((token_in, _DOLLAR))
        return facts_of(known, self._price(pair), in_dollars, int(self._clock.database_time()))

    def _price(self, pair: Pair) -> Ratio | None:
        return marginal_price(*pair, self._snapshots(pair))

    def _snapshots(self, pair: Pair) -> list[Snapshot]:
        return list(self._venue.local_snapshots(pools_for(self._venue, *pair)))
