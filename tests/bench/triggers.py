"""The cost of resting limit orders when the market changes: ``python -m tests.bench.triggers``.

The market is the paper market at its genesis, with real quotes; 100,000 orders rest over six pairs.
"""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from time import perf_counter
from typing import NamedTuple

from service.amm import ChainTime, Direction
from service.amm.curve import input_to_price
from service.amm.errors import AmmError
from service.amm.quote import Ratio
from service.chains.paper.genesis import genesis_pools
from service.chains.venue import PoolRef, Snapshot
from service.clock import Clock
from service.domain.limit_price import KEY_BITS, price_key
from service.domain.tokens import TOKENS
from service.routing import RouteLimits, marginal_price
from service.routing.prices import MarketPrices
from service.triggers.book import FiredLimit, LimitBook, Pair, RestingLimit
from tests.support.market import SLOT, SLOT_MS, VARIANCE

PAIRS: tuple[Pair, ...] = (
    ("SOL", "USDC"),
    ("USDC", "SOL"),
    ("SOL", "JUP"),
    ("USDC", "BONK"),
    ("RAY", "SOL"),
    ("SOL", "USDT"),
)
ORDERS, CROSSED, LARGE = 100_000, 100, 10_000
LARGE_UNITS = {("SOL", "USDC"): 7_000, ("RAY", "SOL"): 150_000}
ROUNDS = 9
NOW = ChainTime(SLOT * SLOT_MS // 1000, SLOT)
LIMITS = RouteLimits()

Row = tuple[str, str, str, int, int, int, float]


class Cost(NamedTuple):
    """A change's cost, including building prices, and the longest time without yielding to the event loop."""

    whole_ms: float
    longest_ms: float
    fired: list[FiredLimit]


@dataclass
class Market:
    """The pools of the genesis, and the same moved by a basis point or two."""

    snapshots: list[Snapshot]
    draw: Random

    @classmethod
    def founded(cls) -> "Market":
        pools = genesis_pools(1, VARIANCE, Clock(seed=1), SLOT, SLOT_MS)
        return cls(
            [Snapshot(PoolRef(p.id, p.dex, p.token_a, p.token_b), p.state, NOW) for p in pools], Random(1)
        )

    def wobbled(self, low_ppm: int = 100, high_ppm: int = 200) -> list[Snapshot]:
        """Return every pool after a swap that moves its price by this much, in either direction."""
        return [self._wobbled(snapshot, self.draw.randint(low_ppm, high_ppm)) for snapshot in self.snapshots]

    def _wobbled(self, snapshot: Snapshot, ppm: int) -> Snapshot:
        direction = self.draw.choice(list(Direction))
        price = snapshot.state.price(direction)
        target = Ratio(price.out * (10**6 - ppm), price.per * 10**6)
        try:
            amount = input_to_price(snapshot.state, direction, NOW, target)
            state = snapshot.state.quote_exact_in(direction, amount, NOW).next_state()
        except AmmError:
            return snapshot
        return Snapshot(snapshot.pool, state, NOW)


def prices_of(pair: Pair, snapshots: Sequence[Snapshot]) -> MarketPrices:
    return MarketPrices(*pair, snapshots, LIMITS)


def first_key(pair: Pair, snapshots: Sequence[Snapshot]) -> int:
    price = marginal_price(*pair, snapshots)
    assert price is not None
    return price_key(*price)


def change(book: LimitBook, pairs: Sequence[Pair], snapshots: Sequence[Snapshot]) -> Cost:
    """Apply a market change to pairs, one after the other."""
    fired = []
    longest = 0.0
    begin = last = perf_counter()
    for pair in pairs:
        for order in book.match_pair(pair, prices_of(pair, snapshots)):
            if order is not None:
                fired.append(order)
            now = perf_counter()
            longest, last = max(longest, now - last), now
    return Cost((perf_counter() - begin) * 1e3, longest * 1e3, fired)


def far_rows(market: Market, number: int) -> Iterator[Row]:
    """Yield orders of all sizes whose limits are 1 to 20 % above the market."""
    clock, draw = Clock(seed=2), Random(2)
    keys = {pair: first_key(pair, market.snapshots) for pair in PAIRS}
    for index in range(number):
        pair = PAIRS[index % len(PAIRS)]
        amount = int(10 ** draw.uniform(-2, 4) * 10 ** TOKENS[pair[0]].decimals)
        yield row(clock.new_order_id(), pair, amount, keys[pair] * draw.randint(1_010, 1_200) // 1_000)


def row(order_id: str, pair: Pair, amount: int, key: int) -> Row:
    return order_id, *pair, amount, max(1, amount * key >> KEY_BITS), 2, 0.0


def book_of(rows: Iterator[Row] | Sequence[Row]) -> LimitBook:
    book = LimitBook()
    for each in rows:
        book.add(RestingLimit(*each))
    return book


def near_rows(market: Market, pair: Pair, number: int) -> list[Row]:
    """Return small orders, of a tenth to ten units, that one pool of the market just fills."""
    clock, draw = Clock(seed=3), Random(3)
    prices = prices_of(pair, market.snapshots)
    rows = []
    for _ in range(number):
        amount = int(10 ** draw.uniform(-1, 1) * 10 ** TOKENS[pair[0]].decimals)
        paid = prices.quote(amount, 1) or 0
        rows.append((clock.new_order_id(), *pair, amount, paid * 19_999 // 20_000, 2, 0.0))
    return rows


def large_rows(market: Market, pair: Pair, number: int, least_bps: int) -> list[Row]:
    """Return orders of about a million dollars whose limit only the marginal price reaches.

    The whole amount's output falls short of the limit by ``least_bps`` basis points or more.
    """
    clock, draw = Clock(seed=4), Random(4)
    prices, key = prices_of(pair, market.snapshots), first_key(pair, market.snapshots)
    rows: list[Row] = []
    while len(rows) < number:
        amount = int(draw.uniform(0.75, 6) * LARGE_UNITS[pair] * 10 ** TOKENS[pair[0]].decimals)
        low = prices.least_bound(amount) * (10_000 + least_bps) // 10_000
        high = amount * key * (10_000 - least_bps) // 10_000 >> KEY_BITS
        if low < high:
            rows.append((clock.new_order_id(), *pair, amount, draw.randint(low, high), 2, 0.0))
    return rows


def report(what: str, value: float, unit: str, bar: float | None, extra: str = "") -> None:
    print(f"{what:66} {value:9.2f} {unit:5} {bar or '-':>9}   {extra}")


def bench_building(market: Market) -> LimitBook:
    rows = list(far_rows(market, ORDERS))
    begin = perf_counter()
    book = book_of(rows)
    report("build from 100,000 plain rows", perf_counter() - begin, "s", 2)
    alike = [row(each[0], PAIRS[0], 10**9, 10**18) for each in rows]
    begin = perf_counter()
    book_of(alike)
    report("the same, all in one bucket at one price", perf_counter() - begin, "s", 2)
    del alike, rows
    tracemalloc.start()
    measured = book_of(far_rows(market, ORDERS))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    report("memory for each order, its id included", held / len(measured), "B", 1_000)
    return book


def bench_crossing(market: Market, book: LimitBook) -> None:
    none = [change(book, PAIRS, market.wobbled()) for _ in range(ROUNDS)]
    assert not any(cost.fired for cost in none)
    report("a change that crosses none, six pairs", median(cost.whole_ms for cost in none), "ms", 5)
    pair = PAIRS[0]
    near = near_rows(market, pair, CROSSED)
    times = []
    for _ in range(ROUNDS):
        for each in near:
            book.add(RestingLimit(*each))
        cost = change(book, PAIRS, market.snapshots)
        assert len(cost.fired) == CROSSED
        times.append(cost)
    extra = f"longest stretch {max(cost.longest_ms for cost in times):.1f} ms"
    report("a change that crosses 100, six pairs", median(c.whole_ms for c in times), "ms", 100, extra)


def bench_large(market: Market, book: LimitBook, pair: Pair, least_bps: int) -> None:
    large = large_rows(market, pair, LARGE, least_bps)
    orders = {each[0]: RestingLimit(*each) for each in large}
    for order in orders.values():
        book.add(order)
    costs = []
    for _ in range(4 * ROUNDS):
        cost = change(book, PAIRS, market.wobbled())
        costs.append(cost)
        for each in cost.fired:
            book.add(orders[each.order.order_id])
    name = f"10,000 large {pair[0]} orders, {least_bps} bps short or more"
    # The bar is for orders that are not filled; one that several pools fill takes a millisecond or two.
    bar = 50 if least_bps else None
    report(f"{name}: first change", costs[0].whole_ms, "ms", None, f"{len(costs[0].fired)} fired")
    later = costs[1:]
    extra = (
        f"worst {max(c.whole_ms for c in later):.1f} ms, {sum(len(c.fired) for c in later) / len(later):.1f}"
        f" fired, longest stretch {max(c.longest_ms for c in costs):.1f} ms"
    )
    report(f"{name}: each later", median(c.whole_ms for c in later), "ms", bar, extra)
    for order_id in orders:
        book.discard(order_id)


def main() -> None:
    print(f"{'':66} {'measured':>9} {'':5} {'bar':>9}")
    market = Market.founded()
    book = bench_building(market)
    bench_crossing(market, book)
    for pair in LARGE_UNITS:
        for least_bps in (10, 0):
            bench_large(market, book, pair, least_bps)


if __name__ == "__main__":
    main()
