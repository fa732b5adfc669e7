"""The best route for an order: one pool, several in parallel, two in sequence through a hub, or a mix.

Every direct pool quotes the whole amount. A search on the pools' curves (``search``) looks for a better
route, which is chosen only if exact quotes of its legs confirm it. Curves ignore rounding to base units;
where rounding may matter, exact quotes decide (``trial``).
"""

from collections.abc import Sequence
from typing import TypeGuard

from service.amm.quote import Ratio
from service.chains.venue import Snapshot
from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.quote import Choice, NoQuote, Path, PoolQuote, Route, SwapMode
from service.routing.exact import Hop, RefusedError, path_of, route_of
from service.routing.limits import RouteLimits
from service.routing.path_curve import BOUGHT, SOLD, UNIT_BITS
from service.routing.paths import Candidate, PathFinder
from service.routing.search import Found, best_set, largest_gain, quick_set
from service.routing.split import Split, split
from service.routing.trial import SMALL, Trial
from service.turns import Steps, finished

_BASIS_POINTS = 10_000

# If no pool trades the pair directly, the number of paths that are quoted to find the best single path.
_SINGLES_QUOTED = 4

# The number of the best pool's segments that are examined for the fast exit.
_SEGMENTS_AT_FIRST = 8

# How much a share is reduced each time it is refused, besides some units: by 0, 2^-20, then 2^-10 of it.
_CUTS = (64, 20, 10)


class NoRouteError(Exception):
    """No route can trade the amount.

    Attributes:
        failure: A transient one, if any of the reasons is transient.
        quotes: The direct pools' quotes and refusals.
    """

    def __init__(self, failure: Failure, quotes: Sequence[PoolQuote | NoQuote]) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.quotes = quotes


def best_route(
    mode: SwapMode,
    token_in: str,
    token_out: str,
    amount: int,
    snapshots: Sequence[Snapshot],
    unavailable: Sequence[NoQuote],
    limits: RouteLimits,
) -> Choice:
    """Return the best route for an amount, with all quotes, without yielding.

    Args:
        mode: Which side ``amount`` fixes.
        token_in: The token sold.
        token_out: The token bought.
        amount: Base units.
        snapshots: The direct pools, and those of two-hop paths; others are ignored.
        unavailable: The direct pools whose state could not be read. They follow the others' quotes.
        limits: The limits of the route.

    Raises:
        NoRouteError: No route takes the whole amount.
    """
    return finished(find_route(amount, PathFinder(token_in, token_out, snapshots, limits, mode), unavailable))


def find_route(amount: int, paths: PathFinder, unavailable: Sequence[NoQuote]) -> Steps[Choice]:
    """Return the best route for an amount, with all quotes, in steps.

    Args:
        amount: Base units of the side that the paths' mode fixes.
        paths: The paths from one token to the other. They keep the computed parts of their curves.
        unavailable: The direct pools whose state could not be read. They follow the others' quotes.

    Returns:
        The choice. A route of several swaps is chosen if its exact quotes beat the best single pool by more
        than the limit, or if no single pool can take the amount; if no pool trades the pair directly, the
        best single path takes the pool's role. An exact-in route takes exactly ``amount``, an exact-out
        route pays exactly that.

    Raises:
        NoRouteError: No route takes the whole amount.
    """
    return (yield from _Router(amount, paths).choose(unavailable))


def marginal_price(token_in: str, token_out: str, snapshots: Sequence[Snapshot]) -> Ratio | None:
    """Return the best marginal price, net of fees, of all direct and two-hop paths.

    See ``PathFinder.marginal_price``; None if no pool trades.
    """
    return finished(PathFinder(token_in, token_out, snapshots, RouteLimits()).marginal_price())


class _Router:
    """The search for the best route of one amount."""

    def __init__(self, amount: int, paths: PathFinder) -> None:
        self._mode = paths.mode
        self._side = SOLD if self._mode is SwapMode.EXACT_IN else BOUGHT
        self._amount = amount
        self._paths = paths
        self._limits = paths.limits
        self._refusals: list[FailureCode] = []
        # The optimum of the curves, see ``Trial``.
        self._optimum: int | None = None

    def choose(self, unavailable: Sequence[NoQuote]) -> Steps[Choice]:
        """Quote, search and decide."""
        direct = self._paths.direct
        answers = []
        for hop in direct:
            answers.append(hop.answer(self._mode, self._amount))
            yield
        quotes = (*answers, *unavailable)
        quoted = [(hop, answer) for hop, answer in zip(direct, answers, strict=True) if _is_quote(answer)]
        if quoted:
            # Sorting is stable, so ties go to the first pool.
            quoted.sort(key=lambda pair: self._cost(pair[1]))
            simple = [route_of(self._mode, [Path((hop.leg(quote),))]) for hop, quote in quoted[:2]]
            better = yield from self._better_than(*quoted[0])
        else:
            simple, better = yield from self._without_single_pool()
        if self._is_small(quotes, better or (simple[0] if simple else None)):
            candidates = list(self._paths.better_than(None))
            trial = Trial(self._mode, self._amount, candidates, self._limits.max_legs, self._optimum)
            better = yield from trial.best([route for route in (better, *simple) if route])
            if not quoted:
                simple = sorted({*simple, *trial.singles()}, key=self._cost)[:2]
        if better is not None and (not simple or self._gains(better, simple[0])):
            return Choice(quotes, better, simple[0] if simple else None)
        if not simple:
            raise NoRouteError(self._failure(quotes), quotes)
        return Choice(quotes, simple[0], simple[1] if len(simple) > 1 else None)

    def _is_small(self, quotes: Sequence[PoolQuote | NoQuote], best: Route | None) -> bool:
        """Whether rounding to base units may decide which route is best."""
        if best is not None:
            return any(min(leg.amount_in, leg.amount_out) < SMALL for leg in best.legs)
        reasons = {quote.reason for quote in quotes if isinstance(quote, NoQuote)}
        return FailureCode.AMOUNT_TOO_SMALL in reasons.union(self._refusals)

    def _better_than(self, single: Hop, quote: PoolQuote) -> Steps[Route | None]:
        """Return a better route than a single pool's, or None: no route gains more than the limit."""
        whole, max_legs = self._amount << UNIT_BITS, self._limits.max_legs
        curve = single.curve
        level = None
        if curve.holds(self._side, whole, segments=_SEGMENTS_AT_FIRST):
            level = curve.level_for(self._side, whole)
            optimum = curve.at(self._side, whole)[1 - self._side]
            others = [each for each in self._paths.better_than(level) if each.hops != (single,)]
            if others:
                most = yield from largest_gain(others, self._side, level, max_legs)
                optimum += -most if self._side == BOUGHT else most
            # The fast exit: no other path starts at a better price than where this pool ends, or those that
            # do cannot gain enough.
            gain = self._cost(quote) << UNIT_BITS
            gain += optimum if self._side == SOLD else -optimum
            if not others or not self._is_gain(gain, abs(self._cost(quote)) << UNIT_BITS):
                self._optimum = optimum
                return None
        candidates = self._paths.all_direct()
        # If no set of paths without bins takes the whole amount, start from the single pool.
        start = (yield from self._quick(candidates, max_legs)) or tuple(
            index for index, candidate in enumerate(candidates) if candidate.hops == (single,)
        )
        found = yield from best_set(candidates, self._side, self._amount, max_legs, start, level)
        if found is not None:
            start, level = found.chosen, found.split.level
        if any(len(each.hops) > 1 for each in self._paths.better_than(level)):
            candidates += [each for each in self._paths.better_than(None) if len(each.hops) > 1]
            found = yield from best_set(candidates, self._side, self._amount, max_legs, start, level)
        return (yield from self._route(candidates, found))

    def _without_single_pool(self) -> Steps[tuple[list[Route], Route | None]]:
        """Return the best paths that take the whole amount alone, and the best route of any kind."""
        candidates = list(self._paths.better_than(None))
        max_legs = self._limits.max_legs
        start = yield from self._quick(candidates, max_legs)
        found = yield from best_set(candidates, self._side, self._amount, max_legs, start)
        better = yield from self._route(candidates, found)
        simple: list[Route] = []
        left = [candidate for candidate in candidates if len(candidate.hops) > 1]
        for _ in range(_SINGLES_QUOTED):
            # With at most two legs, each set is one path.
            start = yield from self._quick(left, 2)
            found = yield from best_set(left, self._side, self._amount, 2, start)
            if found is None:
                break
            path = self._path(left.pop(found.chosen[0]), self._amount)
            yield
            if isinstance(path, Path):
                simple.append(route_of(self._mode, [path]))
                # If a longer route beats the first path, the second path does not matter.
                if len(simple) == 2 or (better is not None and self._gains(better, simple[0])):
                    break
        simple.sort(key=self._cost)
        return simple, better

    def _quick(self, candidates: Sequence[Candidate], max_legs: int) -> Steps[tuple[int, ...]]:
        return quick_set(candidates, self._side, self._amount, max_legs)

    def _route(self, candidates: Sequence[Candidate], found: Found | None) -> Steps[Route | None]:
        """Quote a split as a route.

        If a path's exact quote refuses its share, although its curve allows it, the path gets a smaller share
        or finally none, and the others get the rest.
        """
        if found is None:
            return None
        self._optimum = found.split.other
        chosen = [candidates[index] for index in found.chosen]
        curves = [candidate.curve for candidate in chosen]
        refusals = [0] * len(chosen)
        shares: Split | None = found.split
        while shares is not None:
            answers = []
            for one, share in zip(chosen, shares.shares, strict=True):
                if share:
                    answers.append(self._path(one, share))
                    yield
            paths = [answer for answer in answers if isinstance(answer, Path)]
            if len(paths) == len(answers):
                return route_of(self._mode, paths)
            taking = [index for index, share in enumerate(shares.shares) if share]
            for index, answer in zip(taking, answers, strict=True):
                if isinstance(answer, Path):
                    continue
                left = 0
                if answer is FailureCode.INSUFFICIENT_LIQUIDITY and refusals[index] < len(_CUTS):
                    share = shares.shares[index]
                    # Every bin may lose a unit or two by rounding.
                    left = share - (share >> _CUTS[refusals[index]]) - 2 * len(curves[index].levels)
                refusals[index] += 1
                curves[index] = curves[index].ending_at(self._side, max(left, 0) << UNIT_BITS)
            shares = yield from split(curves, self._side, self._amount)
        return None

    def _path(self, candidate: Candidate, share: int) -> Path | FailureCode:
        try:
            return path_of(candidate.hops, self._mode, share)
        except RefusedError as refusal:
            self._refusals.append(refusal.reason)
            return refusal.reason

    def _cost(self, one: PoolQuote | Path | Route) -> int:
        """Return the sort key of quotes of one amount: lower is better."""
        return -one.amount_out if self._side == SOLD else one.amount_in

    def _gains(self, route: Route, single: Route) -> bool:
        """Whether a route beats a simpler one by more than the limit."""
        return self._is_gain(self._cost(single) - self._cost(route), abs(self._cost(single)))

    def _is_gain(self, gain: int, cost: int) -> bool:
        return gain * _BASIS_POINTS > cost * self._limits.min_split_gain_bps

    def _failure(self, quotes: Sequence[PoolQuote | NoQuote]) -> Failure:
        reasons = [quote.reason for quote in quotes if isinstance(quote, NoQuote)]
        failures = [Failure.of(reason) for reason in (*reasons, *self._refusals, *self._paths.refusals())]
        if not failures and self._paths.exist:
            # Every path trades, but not this amount.
            failures = [Failure.of(FailureCode.INSUFFICIENT_LIQUIDITY)]
        passing = [failure for failure in failures if failure.remedy is not Remedy.NONE]
        return (passing or failures or [Failure.of(FailureCode.NO_ROUTE)])[0]


def _is_quote(answer: PoolQuote | NoQuote) -> TypeGuard[PoolQuote]:
    return isinstance(answer, PoolQuote)
