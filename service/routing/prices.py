"""A pair's prices at one moment: what can be paid at most, and exact quotes."""

from collections.abc import Sequence

from service.chains.venue import Snapshot
from service.domain.quote import SwapMode
from service.routing import NoRouteError, RouteLimits, find_route
from service.routing.ceiling import Ceiling
from service.routing.exact import RefusedError
from service.routing.paths import PathFinder
from service.turns import finished


class MarketPrices:
    """A pair's prices by the pools' snapshots. Fits ``book.PairPrices``.

    Args:
        token_in: What is sold.
        token_out: What is bought.
        snapshots: The direct pools, and those of paths through the hubs; others are passed over.
        limits: What bounds a route.
    """

    def __init__(
        self, token_in: str, token_out: str, snapshots: Sequence[Snapshot], limits: RouteLimits
    ) -> None:
        self._limits = limits
        self._ways = PathFinder(token_in, token_out, snapshots, through_hubs=limits.max_legs > 1)
        self._ceiling = Ceiling(self._ways, limits.max_legs)
        self.bound = self._ceiling.bound
        self.least_bound = self._ceiling.least_bound
        self.reaches = self._ceiling.reaches

    def pays(self, amount: int, enough: int) -> int | None:
        """Return what an amount is paid, by exact quotes; None if nothing takes it.

        The best direct pool's quote if that is enough, for it takes a tenth of the time; else the best
        route's.

        Args:
            amount: Base units in, positive.
            enough: Base units out.
        """
        single = max((self._single(place, amount) for place in range(len(self._ways.direct))), default=0)
        if single >= enough:
            return single
        try:
            choice = finished(find_route(SwapMode.EXACT_IN, amount, self._ways, (), self._limits))
        except NoRouteError:
            return None
        return choice.route.amount_out

    def _single(self, place: int, amount: int) -> int:
        try:
            return self._ways.direct[place].quote(SwapMode.EXACT_IN, amount).amount_out
        except RefusedError:
            return 0
