"""The best split of an amount, by an independent method: bisection on the price, with 60 digits.

It shares only the pools' fields with the router: constant product in reserves, a price range in its virtual
reserves, bins by real powers of their step. A path of two pools is inverted by bisection instead of being
composed, and every set of paths is solved. It is itself checked by a grid of exact quotes.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from decimal import Decimal, getcontext
from itertools import combinations
from typing import Protocol

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, Direction, DlmmPool, PoolState

getcontext().prec = 60

ZERO, ONE = Decimal(0), Decimal(1)
Q64 = Decimal(2) ** 64


class Curve(Protocol):
    """A concave function of the amount sold."""

    limit: Decimal

    def pays(self, sold: Decimal) -> Decimal: ...

    def slope(self, sold: Decimal) -> Decimal:
        """The price of the next unit."""
        ...

    def sold_to(self, price: Decimal) -> Decimal:
        """Return what is sold at prices above this one."""
        ...


class Product:
    """Reserves r and R; k of the input and K of the output remain after fees: K R k x / (r + k x)."""

    def __init__(self, held: Decimal, paid_from: Decimal, kept: Decimal, paid: Decimal, limit: Decimal):
        self.held, self.paid_from, self.kept, self.paid, self.limit = held, paid_from, kept, paid, limit

    def pays(self, sold: Decimal) -> Decimal:
        return self.paid * self.paid_from * self.kept * sold / (self.held + self.kept * sold)

    def slope(self, sold: Decimal) -> Decimal:
        return self.paid * self.paid_from * self.kept * self.held / (self.held + self.kept * sold) ** 2

    def sold_to(self, price: Decimal) -> Decimal:
        root = (self.paid * self.paid_from * self.kept * self.held / price).sqrt()
        return min(max((root - self.held) / self.kept, ZERO), self.limit)


class Bins:
    """Falling prices, each for an amount of input."""

    def __init__(self, bins: Sequence[tuple[Decimal, Decimal]]):
        self.prices = [price for price, _ in bins]
        self.ends, self.paid = [ZERO], [ZERO]
        for price, capacity in bins:
            self.ends.append(self.ends[-1] + capacity)
            self.paid.append(self.paid[-1] + price * capacity)
        self.limit = self.ends[-1]

    def _bin(self, sold: Decimal) -> int:
        return min(max(bisect_left(self.ends, sold) - 1, 0), len(self.prices) - 1)

    def pays(self, sold: Decimal) -> Decimal:
        index = self._bin(sold)
        return self.paid[index] + self.prices[index] * (sold - self.ends[index])

    def slope(self, sold: Decimal) -> Decimal:
        return self.prices[self._bin(sold)]

    def sold_to(self, price: Decimal) -> Decimal:
        return self.ends[bisect_left(self.prices, -price, key=lambda each: -each)]


class Reduced:
    """A curve of whose output only a fraction is used."""

    def __init__(self, curve: Curve, kept: Decimal):
        self.curve, self.kept, self.limit = curve, kept, curve.limit

    def pays(self, sold: Decimal) -> Decimal:
        return self.kept * self.curve.pays(sold)

    def slope(self, sold: Decimal) -> Decimal:
        return self.kept * self.curve.slope(sold)

    def sold_to(self, price: Decimal) -> Decimal:
        return self.curve.sold_to(price / self.kept)


class CurveSequence:
    """Two curves in sequence."""

    def __init__(self, first: Curve, second: Curve):
        self.first, self.second = first, second
        self.limit = first.limit
        if first.pays(first.limit) > second.limit:
            self.limit = _root(lambda sold: first.pays(sold) < second.limit, first.limit)

    def pays(self, sold: Decimal) -> Decimal:
        return self.second.pays(min(self.first.pays(sold), self.second.limit))

    def slope(self, sold: Decimal) -> Decimal:
        return self.first.slope(sold) * self.second.slope(min(self.first.pays(sold), self.second.limit))

    def sold_to(self, price: Decimal) -> Decimal:
        return _root(lambda sold: self.slope(sold) > price, self.limit)


def _root(before: "object", limit: Decimal) -> Decimal:
    """Return the largest amount for which a predicate holds, to 2^-110 of the limit."""
    assert callable(before)
    low, high = ZERO, limit
    for _ in range(110):
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return low


def curve(state: PoolState, direction: Direction) -> Curve:
    """Return a pool's curve, from its fields. The volatility reference is assumed to be the active bin."""
    a_to_b = direction is Direction.A_TO_B
    if isinstance(state, CpmmPool):
        return _cpmm(state, a_to_b)
    if isinstance(state, AmmV4Pool):
        coin, pc = Decimal(state.vault_coin), Decimal(state.vault_pc)
        kept = ONE - Decimal(state.fee_numerator) / state.fee_denominator
        return Product(*((coin, pc) if a_to_b else (pc, coin)), kept, ONE, Decimal(2**64))
    if isinstance(state, DammV2Pool):
        return _damm_v2(state, a_to_b)
    assert isinstance(state, DlmmPool)
    return _dlmm(state, a_to_b)


def _cpmm(pool: CpmmPool, a_to_b: bool) -> Curve:
    creator = Decimal(pool.creator_fee_rate if pool.enable_creator_fee else 0) / 10**6
    on_input = pool.creator_fee_on == 0 or (pool.creator_fee_on == 1) == a_to_b
    trade = Decimal(pool.trade_fee_rate) / 10**6
    kept, paid = (ONE - trade - creator, ONE) if on_input else (ONE - trade, ONE - creator)
    reserves = Decimal(pool.vault_0), Decimal(pool.vault_1)
    return Product(*(reserves if a_to_b else reserves[::-1]), kept, paid, Decimal(2**64))


def _damm_v2(pool: DammV2Pool, a_to_b: bool) -> Curve:
    kept = ONE - Decimal(pool.base_fee.cliff_rate) / 10**9
    on_input = pool.collect_fee_mode != 0 and not a_to_b
    if pool.collect_fee_mode == 2:
        virtual_a, virtual_b, limit = Decimal(pool.amount_a), Decimal(pool.amount_b), Decimal(2**64)
    else:
        liquidity, root = pool.liquidity / Q64, pool.sqrt_price / Q64
        virtual_a, virtual_b = liquidity / root, liquidity * root
        if a_to_b:
            limit = liquidity / (pool.sqrt_min_price / Q64) - virtual_a
        else:
            limit = liquidity * (pool.sqrt_max_price / Q64) - virtual_b
    held, paid_from = (virtual_a, virtual_b) if a_to_b else (virtual_b, virtual_a)
    if on_input:
        return Product(held, paid_from, kept, ONE, limit / kept)
    return Product(held, paid_from, ONE, kept, limit)


def _dlmm(pool: DlmmPool, a_to_b: bool) -> Curve:
    parameters = pool.parameters
    on_input = parameters.collect_fee_mode == 0 or not a_to_b
    ids = sorted(
        index * 70 + offset
        for index, array in pool.arrays.items()
        for offset, bin_ in enumerate(array.bins)
        if (bin_.amount_y if a_to_b else bin_.amount_x)
    )
    ahead = (
        [i for i in reversed(ids) if i <= pool.active_id]
        if a_to_b
        else [i for i in ids if i >= pool.active_id]
    )
    bins = []
    for i in ahead:
        price = (ONE + Decimal(parameters.bin_step) / 10_000) ** i
        volatility = min(abs(i - pool.active_id) * 10_000, parameters.max_volatility)
        variable = Decimal((volatility * parameters.bin_step) ** 2 * parameters.variable_fee_control) / 10**11
        kept = (
            ONE
            - min(Decimal(parameters.base_factor * parameters.bin_step * 10) + variable, Decimal(10**8))
            / 10**9
        )
        bin_ = pool.bin(i)
        net = bin_.amount_y / price if a_to_b else bin_.amount_x * price
        bins.append(((price if a_to_b else ONE / price) * kept, net / kept if on_input else net))
    return Bins(bins)


def best(
    paths: Sequence[tuple[Curve, frozenset[str]]], amount: int, max_legs: int, exact_out: bool
) -> Decimal | None:
    """Return the maximum output or the minimum input for an amount, over all sets of pool-disjoint paths.

    Args:
        paths: Each with its pools.
        amount: Base units sold, or bought if ``exact_out``.
        max_legs: Maximum number of pools.
        exact_out: Whether the amount is bought.

    Returns:
        Base units without rounding; None if no set takes the amount.
    """
    found = None
    for chosen in _sets(paths, max_legs):
        value = _solve(chosen, Decimal(amount), exact_out)
        if value is not None and (found is None or (value < found if exact_out else value > found)):
            found = value
    return found


def _sets(paths: Sequence[tuple[Curve, frozenset[str]]], max_legs: int) -> Iterator[list[Curve]]:
    """Yield the sets to which no path can be added."""
    fitting: list[frozenset[int]] = []
    for size in range(max_legs, 0, -1):
        for places in combinations(range(len(paths)), size):
            pools = [pool for place in places for pool in paths[place][1]]
            if len(pools) > max_legs or len(set(pools)) < len(pools):
                continue
            if any(known.issuperset(places) for known in fitting):
                continue
            fitting.append(frozenset(places))
            yield [paths[place][0] for place in places]


def _solve(curves: Sequence[Curve], amount: Decimal, exact_out: bool) -> Decimal | None:
    """Bisect the logarithm of the price at which all paths end; the rest trades at that price."""

    def at(price: Decimal) -> tuple[Decimal, Decimal]:
        sold = [each.sold_to(price) for each in curves]
        return sum(sold, ZERO), sum((each.pays(part) for each, part in zip(curves, sold, strict=True)), ZERO)

    def measure(point: tuple[Decimal, Decimal]) -> Decimal:
        return point[1] if exact_out else point[0]

    low = Decimal(10) ** -40
    high = max(each.slope(ZERO) for each in curves) * 2
    if measure(at(low)) < amount:
        return None
    for _ in range(160):
        middle = (low * high).sqrt()
        low, high = (middle, high) if measure(at(middle)) >= amount else (low, middle)
    sold, bought = at(high)
    if exact_out:
        return sold + (amount - bought) / high
    return bought + (amount - sold) * high
