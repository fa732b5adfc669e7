"""Exact quotes: legs, paths and routes as they would execute, to the base unit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.amm import AmmError, Direction, SwapQuote
from service.amm.curve import segments as segments_of
from service.amm.quote import MILLION
from service.chains.venue import Snapshot
from service.domain.failures import FailureCode
from service.domain.leg_limits import HopMargin
from service.domain.quote import Leg, NoQuote, Path, PoolQuote, Route, SwapMode
from service.routing.path_curve import PathCurve, Segments, level_of, reduced

_CODES = {
    "amount_too_small": FailureCode.AMOUNT_TOO_SMALL,
    "arithmetic_overflow": FailureCode.INSUFFICIENT_LIQUIDITY,
    "insufficient_liquidity": FailureCode.INSUFFICIENT_LIQUIDITY,
    "pool_disabled": FailureCode.POOL_DISABLED,
    "pool_not_open": FailureCode.POOL_NOT_OPEN,
    "unsupported_pool": FailureCode.UNSUPPORTED_POOL,
    "swap_undetermined": FailureCode.QUOTES_UNAVAILABLE,
    "state_incomplete": FailureCode.QUOTES_UNAVAILABLE,
    "bin_array_missing": FailureCode.QUOTES_UNAVAILABLE,
    "malformed_state": FailureCode.QUOTES_UNAVAILABLE,
}


class RefusedError(Exception):
    """A pool does not quote.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: FailureCode) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(error: AmmError) -> FailureCode:
    """Return the failure code of a pool's error."""
    return _CODES.get(error.code, FailureCode.UNSUPPORTED_POOL)


@dataclass(slots=True, eq=False)
class Hop:
    """A pool in one direction at one moment, with the computed part of its curve.

    Attributes:
        margin: The margin between it and the next pool; None if it is the last one of its path.
        refusal: Why it has no curve; None if it has one, or if that is not known yet.
    """

    snapshot: Snapshot
    token_in: str
    token_out: str
    direction: Direction
    margin: HopMargin | None = None
    refusal: FailureCode | None = None
    _segments: Segments | None = field(default=None, repr=False)
    _level: int | None = None
    _curve: PathCurve | None = field(default=None, repr=False)

    @property
    def segments(self) -> Segments:
        """The segments of the pool's curve, less its margin; none if it does not trade."""
        if self._segments is None:
            snapshot = self.snapshot
            try:
                segments = segments_of(snapshot.state, self.direction, snapshot.now)
                if self.margin is not None:
                    segments = reduced(segments, *self.margin.kept)
                self._segments = Segments(segments)
            except AmmError as error:
                self.refusal = reason_of(error)
                self._segments = Segments(iter(()))
        return self._segments

    @property
    def level(self) -> int | None:
        """The level of the marginal price, see ``path_curve``; None if the pool does not trade."""
        if self._level is None:
            segment = self.segments.first
            if segment is None:
                return None
            self._level = level_of(segment)
        return self._level

    @property
    def is_smooth(self) -> bool:
        """Whether the pool has no bins, so that its curve is one segment."""
        segment = self.segments.first
        return segment is not None and segment.bend > 0

    @property
    def curve(self) -> PathCurve:
        """The pool's curve as a path of one leg."""
        if self._curve is None:
            self._curve = PathCurve(iter(self.segments))
        return self._curve

    def quote(self, mode: SwapMode, amount: int) -> SwapQuote[object]:
        """Quote an exact input or an exact output.

        Raises:
            RefusedError: The pool does not quote it, or its output would be zero.
        """
        state = self.snapshot.state
        ask = state.quote_exact_in if mode is SwapMode.EXACT_IN else state.quote_exact_out
        try:
            quoted = ask(self.direction, amount, self.snapshot.now)
        except AmmError as error:
            raise RefusedError(reason_of(error)) from error
        if not quoted.amount_out:
            raise RefusedError(FailureCode.AMOUNT_TOO_SMALL)
        return quoted

    def leg(self, quoted: SwapQuote[object] | PoolQuote) -> Leg:
        """Return a quote as a leg."""
        pool = self.snapshot.pool
        return Leg(
            pool.dex,
            pool.id,
            self.token_in,
            self.token_out,
            quoted.amount_in,
            quoted.amount_out,
            quoted.fee_in,
            quoted.fee_out,
            quoted.price_impact_ppm,
        )

    def answer(self, mode: SwapMode, amount: int) -> PoolQuote | NoQuote:
        """Return the pool's quote or refusal for a whole amount."""
        pool = self.snapshot.pool
        try:
            quoted = self.quote(mode, amount)
        except RefusedError as refusal:
            return NoQuote(pool.dex, pool.id, refusal.reason)
        return PoolQuote(
            pool.dex,
            pool.id,
            quoted.amount_in,
            quoted.amount_out,
            quoted.fee_in,
            quoted.fee_out,
            quoted.price_impact_ppm,
        )


Hops = tuple[Hop, ...]
"""One pool, or two in a row."""


def path_of(hops: Hops, mode: SwapMode, amount: int) -> Path:
    """Quote a path: forwards from an exact input, backwards from an exact output.

    The second pool sells what the first one is quoted to pay, less the margin. For an exact output the first
    pool buys what the second one is quoted to need, plus the margin.

    Raises:
        RefusedError: A pool does not quote its leg.
    """
    legs: list[Leg] = []
    if mode is SwapMode.EXACT_IN:
        for hop in hops:
            legs.append(hop.leg(hop.quote(mode, amount)))
            amount = passed_on(hop, legs[-1].amount_out)
    else:
        for hop in reversed(hops):
            legs.insert(0, hop.leg(hop.quote(mode, passed_on(hop, amount))))
            amount = legs[0].amount_in
    return Path(tuple(legs))


def passed_on(hop: Hop, amount: int) -> int:
    """Return an amount between a pool and the next one of its path with the margin applied.

    Exact-in: what the next pool sells, from what this one pays. Exact-out: what this pool buys, from what the
    next one needs. After the last pool there is no margin.
    """
    return amount if hop.margin is None else hop.margin.applied(amount)


def route_of(mode: SwapMode, paths: Sequence[Path]) -> Route:
    """Combine parallel paths into a route."""
    first = paths[0].legs
    return Route(mode, first[0].token_in, first[-1].token_out, tuple(paths), _impact_ppm(paths))


def _impact_ppm(paths: Sequence[Path]) -> int:
    """Average the paths' impacts, weighted by input; along a path, i and j compound to 1 - (1-i)(1-j)."""
    lost = amount_in = 0
    for path in paths:
        kept = MILLION * MILLION
        for leg in path.legs:
            kept = kept * (MILLION - leg.price_impact_ppm) // MILLION
        lost += path.amount_in * (MILLION * MILLION - kept)
        amount_in += path.amount_in
    return -(-lost // (MILLION * amount_in))
