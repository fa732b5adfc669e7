"""The best route for an order: one pool, several side by side, two in a row through a hub, or a mix.

Every direct pool quotes the whole amount. What beats the best of them is looked for on the pools' curves
(``search``), and chosen only if the exact quotes of its legs say so too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeGuard

from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.quote import Choice, NoQuote, Offer, Path, PoolQuote, Route, SwapMode
from service.venues.amm.quote import Ratio
from service.venues.routing.exact import Hop, RefusedError, path_of, route_of
from service.venues.routing.path_curve import UNIT_BITS
from service.venues.routing.paths import Candidate, Ways
from service.venues.routing.search import best_set
from service.venues.routing.split import BOUGHT, SOLD, split
from service.venues.venue import Snapshot

_BASIS_POINTS = 10_000

# Where no pool trades the pair, so many paths are quoted to find the best on its own.
_SINGLES_QUOTED = 4


class NoRouteError(Exception):
    """Nothing can be traded.

    Attributes:
        failure: One that may pass, if any of the reasons is.
        offers: What the direct pools answered.
    """

    def __init__(self, failure: Failure, offers: Sequence[Offer]) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.offers = offers


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """What bounds a route.

    Attributes:
        max_legs: Swaps in all; each costs a transaction's room.
        min_split_gain_bps: What more than one swap must gain over the best single pool, and more.
    """

    max_legs: int = 4
    min_split_gain_bps: int = 1


def best_route(
    mode: SwapMode,
    token_in: str,
    token_out: str,
    amount: int,
    snapshots: Sequence[Snapshot],
    unavailable: Sequence[NoQuote],
    limits: RouteLimits,
) -> Choice:
    """Return the best route for an amount, and what it was chosen from.

    Args:
        mode: Which side ``amount`` is of.
        token_in: What is sold.
        token_out: What is bought.
        amount: Base units.
        snapshots: The direct pools, and those of paths through the hubs; others are passed over.
        unavailable: The direct pools whose state could not be had. They follow the others' offers.
        limits: What bounds the route.

    Returns:
        The choice. More than one swap is chosen where the exact quotes beat the best single pool by more
        than the limit, or where no single pool can; where no pool trades the pair at all, the best
        single path takes its part. An exact-in route takes just ``amount``, an exact-out route pays it.

    Raises:
        NoRouteError: no route takes the whole amount.
    """
    ways = Ways(token_in, token_out, snapshots, through_hubs=limits.max_legs > 1)
    return _Router(mode, amount, ways, limits).choose(unavailable)


def marginal_price(token_in: str, token_out: str, snapshots: Sequence[Snapshot]) -> Ratio | None:
    """Return the best price of the first unit, net of fees, over all direct and two-hop paths.

    It is of the pools' curves, without roundings: base units out per base unit in. None if no pool trades.
    """
    best: Ratio | None = None
    for hops in Ways(token_in, token_out, snapshots).better_than(None):
        pieces = [piece for hop in hops if (piece := hop.chain.piece(0)) is not None]
        price = Ratio(prod(piece.gain for piece in pieces), prod(piece.depth for piece in pieces))
        if best is None or price.out * best.per > best.out * price.per:
            best = price
    return best


class _Router:
    """One search for a route."""

    def __init__(self, mode: SwapMode, amount: int, ways: Ways, limits: RouteLimits) -> None:
        self._mode = mode
        self._side = SOLD if mode is SwapMode.EXACT_IN else BOUGHT
        self._amount = amount
        self._ways = ways
        self._limits = limits
        self._refusals: list[FailureCode] = []

    def choose(self, unavailable: Sequence[NoQuote]) -> Choice:
        """Quote, search and decide."""
        direct = self._ways.direct
        answers = [hop.offer(self._mode, self._amount) for hop in direct]
        offers = (*answers, *unavailable)
        quoted = [(hop, answer) for hop, answer in zip(direct, answers, strict=True) if _is_quote(answer)]
        if quoted:
            # Sorting is stable: of equals, the first pool.
            quoted.sort(key=lambda pair: self._cost(pair[1]))
            simple = [route_of(self._mode, [Path((hop.leg(quote),))]) for hop, quote in quoted[:2]]
            better = self._better_than(quoted[0][0])
        else:
            simple, better = self._without_single_pool()
        if better is not None and (not simple or self._gains(better, simple[0])):
            return Choice(offers, better, simple[0] if simple else None)
        if not simple:
            raise NoRouteError(self._failure(offers), offers)
        return Choice(offers, simple[0], simple[1] if len(simple) > 1 else None)

    def _better_than(self, single: Hop) -> Route | None:
        """Return the best route where one pool takes the whole; None if that one is the best."""
        whole = self._amount << UNIT_BITS
        alone = Candidate.of((single,))
        reached = alone.curve.reach_amount(self._side, whole)
        level = alone.curve.level_for(self._side, whole) if reached else None
        others = [hops for hops in self._ways.better_than(level) if hops[0] is not single]
        if not others:
            return None
        candidates = [alone, *(Candidate.of(hops) for hops in others)]
        candidates.sort(key=lambda candidate: (len(candidate.hops), sorted(candidate.pools)))
        return self._best(candidates, (candidates.index(alone),) if reached else ())

    def _without_single_pool(self) -> tuple[list[Route], Route | None]:
        """Return the best paths through a hub that take the whole alone, and the best route of any."""
        candidates = [Candidate.of(hops) for hops in self._ways.better_than(None)]
        costs = []
        for place, candidate in enumerate(candidates):
            alone = split([candidate.curve], self._side, self._amount)
            if len(candidate.hops) > 1 and alone is not None:
                costs.append((alone.other if self._side == BOUGHT else -alone.other, place))
        singles = []
        for _, place in sorted(costs)[:_SINGLES_QUOTED]:
            path = self._path(candidates[place], self._amount)
            if path is not None:
                singles.append((self._cost(path), place, route_of(self._mode, [path])))
        singles.sort(key=lambda single: single[:2])
        better = self._best(candidates, (singles[0][1],) if singles else ()) if candidates else None
        return [route for _, _, route in singles[:2]], better

    def _best(self, candidates: Sequence[Candidate], start: tuple[int, ...]) -> Route | None:
        """Return the best set of paths as a route; a path that refuses its share is left out of it."""
        found = best_set(candidates, self._side, self._amount, self._limits.max_legs, start)
        if found is None:
            return None
        chosen = [candidates[place] for place in found.chosen]
        shares: Sequence[int] | None = found.split.shares
        while shares is not None:
            taking = [(one, share) for one, share in zip(chosen, shares, strict=True) if share]
            paths = [self._path(one, share) for one, share in taking]
            whole = [path for path in paths if path is not None]
            if len(whole) == len(paths):
                return route_of(self._mode, whole)
            chosen = [one for (one, _), path in zip(taking, paths, strict=True) if path is not None]
            again = split([one.curve for one in chosen], self._side, self._amount)
            shares = None if again is None else again.shares
        return None

    def _path(self, candidate: Candidate, share: int) -> Path | None:
        try:
            return path_of(candidate.hops, self._mode, share)
        except RefusedError as refusal:
            self._refusals.append(refusal.reason)
            return None

    def _cost(self, one: PoolQuote | Path | Route) -> int:
        """Return what orders quotes of one amount: the less the better."""
        return -one.amount_out if self._side == SOLD else one.amount_in

    def _gains(self, route: Route, single: Route) -> bool:
        """Whether a route beats a simpler one by more than the limit."""
        gain = self._cost(single) - self._cost(route)
        return gain * _BASIS_POINTS > abs(self._cost(single)) * self._limits.min_split_gain_bps

    def _failure(self, offers: Sequence[Offer]) -> Failure:
        reasons = [offer.reason for offer in offers if isinstance(offer, NoQuote)]
        failures = [Failure.of(reason) for reason in (*reasons, *self._refusals, *self._ways.refusals())]
        if not failures and self._ways.exist:
            # Every path trades, but not so much.
            failures = [Failure.of(FailureCode.INSUFFICIENT_LIQUIDITY)]
        passing = [failure for failure in failures if failure.remedy is not Remedy.NONE]
        return (passing or failures or [Failure.of(FailureCode.NO_ROUTE)])[0]


def _is_quote(answer: Offer) -> TypeGuard[PoolQuote]:
    return isinstance(answer, PoolQuote)
