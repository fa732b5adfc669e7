"""A pair's prices at one moment: an upper bound, and exact quotes."""

from collections.abc import Sequence

from service.chains.venue import Snapshot
from service.domain.quote import SwapMode
from service.routing import NoRouteError, RouteLimits, find_route
from service.routing.ceiling import Ceiling
from service.routing.exact import Hop, RefusedError
from service.routing.paths import PathFinder
from service.turns import finished


class MarketPrices:
    """A pair's prices from the pools' snapshots. Implements ``book.PairPrices``.

    Args:
        token_in: The token sold.
        token_out: The token bought.
        snapshots: The direct pools, and those of two-hop paths; others are ignored.
        limits: The limits of a route.
    """

    def __init__(
        self, token_in: str, token_out: str, snapshots: Sequence[Snapshot], limits: RouteLimits
    ) -> None:
        self._paths = PathFinder(token_in, token_out, snapshots, limits)
        self._ceiling = Ceiling(self._paths, limits.max_legs)
        self.bound = self._ceiling.bound
        self.least_bound = self._ceiling.least_bound
        self.may_reach = self._ceiling.may_reach

    def quote(self, amount: int, minimum_out: int) -> int | None:
        """Return the output for an amount, by exact quotes; None if no route takes it.

        It is the best direct pool's quote if that pays ``minimum_out``, since it takes a tenth of the time;
        otherwise the best route's.

        Args:
            amount: Base units in, positive.
            minimum_out: Base units out.
        """
        single = max((_output(hop, amount) for hop in self._paths.direct), default=0)
        if single >= minimum_out:
            return single
        try:
            choice = finished(find_route(amount, self._paths, ()))
        except NoRouteError:
            return None
        return choice.route.amount_out


def _output(pool: Hop, amount: int) -> int:
    """Return a pool's exact output for an amount; 0 if it does not quote it."""
    try:
        return pool.quote(SwapMode.EXACT_IN, amount).amount_out
    except RefusedError:
        return 0
