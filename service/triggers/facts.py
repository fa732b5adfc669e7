"""The facts that sniper conditions are checked against: a pair's pools and trades at one moment."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.amm import Ratio
from service.chains.venue import PoolView
from service.domain.conditions import LONGEST_VOLUME_S, Opened, PairFacts
from service.domain.quote import Dex

_USDC = "USDC"

# Expired entries are deleted once they are as many as a full window's, so each entry is moved once.
_CUT_AT = LONGEST_VOLUME_S


class VolumeTape:
    """The volume traded in one pool, per second, over the last hour.

    It stores cumulative sums, at most two hours of them, so that any window is one subtraction.
    """

    __slots__ = ("_seconds", "_sums_a", "_sums_b")

    def __init__(self) -> None:
        # The first entry is the start of the sums.
        self._seconds = [-1]
        self._sums_a = [0]
        self._sums_b = [0]

    def __len__(self) -> int:
        """Return the number of seconds that it holds."""
        return len(self._seconds) - 1

    def add(self, second: int, volume_a: int, volume_b: int) -> None:
        """Add traded volume.

        Args:
            second: Unix time, ideally ascending: a second before the latest counts as the latest.
            volume_a: Base units of the pool's token A, in or out.
            volume_b: The same for token B.
        """
        if second > self._seconds[-1]:
            self._cut(second)
            self._seconds.append(second)
            self._sums_a.append(self._sums_a[-1])
            self._sums_b.append(self._sums_b[-1])
        self._sums_a[-1] += volume_a
        self._sums_b[-1] += volume_b

    def total(self, seconds: int, now_s: int) -> tuple[int, int]:
        """Return the base units of A and of B that were traded in the last ``seconds``.

        The window is rounded outwards to whole seconds: it includes all of the second in which it begins, and
        the current second so far.

        Args:
            seconds: 1 to 3600.
            now_s: Unix time.
        """
        # The last entry before the window's first second.
        before = bisect_left(self._seconds, now_s - seconds, lo=1) - 1
        return self._sums_a[-1] - self._sums_a[before], self._sums_b[-1] - self._sums_b[before]

    def _cut(self, second: int) -> None:
        # One more second than the longest window, which may begin within that second.
        expired = bisect_left(self._seconds, second - LONGEST_VOLUME_S - 1, lo=1) - 1
        if expired >= _CUT_AT:
            for column in (self._seconds, self._sums_a, self._sums_b):
                del column[:expired]


@dataclass(frozen=True, slots=True)
class PairPools:
    """A pair and its direct pools, without prices.

    Attributes:
        token_in: The token that is sold.
        token_out: The token that is bought.
        decimals_in: Decimal places of tokenIn.
        decimals_out: Decimal places of tokenOut.
        views: The current pools; those of other pairs are ignored.
        tapes: Traded volume by pool id; pools without trades are absent.
    """

    token_in: str
    token_out: str
    decimals_in: int
    decimals_out: int
    views: Sequence[PoolView]
    tapes: Mapping[str, VolumeTape]


def facts_of(pair: PairPools, price: Ratio | None, price_in_usdc: Ratio | None, now_s: int) -> PairFacts:
    """Return a pair's facts; compute them once per change of the market.

    Args:
        pair: The pair and its pools.
        price: Its best marginal price, see ``routing.marginal_price``.
        price_in_usdc: tokenIn's best marginal price in USDC; ignored if tokenIn is USDC.
        now_s: Unix time, the end of the volume windows.
    """
    sides = {pair.token_in, pair.token_out}
    direct = [view for view in pair.views if {view.pool.token_a, view.pool.token_b} == sides]
    held_in = held_out = 0
    newest: dict[Dex, Opened] = {}
    # For each pool with trades: its tape, and whether tokenOut is its token A.
    traded: list[tuple[VolumeTape, bool]] = []
    for view in direct:
        pool, out_is_a = view.pool, view.pool.token_a == pair.token_out
        held_in += view.amount_b if out_is_a else view.amount_a
        held_out += view.amount_a if out_is_a else view.amount_b
        opened = Opened(view.opened_at, pool.id)
        newest[pool.dex] = max(opened, newest.get(pool.dex, opened))
        if pool.id in pair.tapes:
            traded.append((pair.tapes[pool.id], out_is_a))

    def volume_out(seconds: int) -> int:
        totals = ((tape.total(seconds, now_s), out_is_a) for tape, out_is_a in traded)
        return sum(volume_a if out_is_a else volume_b for (volume_a, volume_b), out_is_a in totals)

    in_usdc = Ratio(1, 1) if pair.token_in == _USDC else price_in_usdc
    return PairFacts(
        pair.decimals_in,
        pair.decimals_out,
        price,
        held_out,
        None if in_usdc is None else (2 * held_in * in_usdc.out, in_usdc.per),
        newest,
        volume_out,
    )
