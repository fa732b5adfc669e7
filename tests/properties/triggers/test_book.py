"""The book of resting limit orders: fires exactly the orders that a check of every order would fire."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.amm import ChainTime, CpmmPool, PoolState
from service.chains.venue import PoolRef, Snapshot
from service.domain.amounts import U64_MAX
from service.domain.limit_price import price_key
from service.domain.quote import Dex, SwapMode
from service.routing import NoRouteError, RouteLimits, best_route
from service.routing.prices import MarketPrices
from service.triggers.book import FiredLimit, LimitBook, RestingLimit
from tests.properties.amm.test_amm_properties import pools
from tests.support.market import SLOT, a_market

NOW = ChainTime(1_800_000_000)
PAIR = "SOL", "JUP"
LIMITS = RouteLimits()
Listed = tuple[str, str, PoolState]
FEW = settings(max_examples=40, deadline=None)
ALL = 10**9
"""A rotation that quotes every order again which the bound does not rule out."""


def snapshots_of(*states: tuple[str, str, PoolState]) -> list[Snapshot]:
    return [
        Snapshot(PoolRef(f"raydium:{number}", Dex.RAYDIUM, token_a, token_b), state, NOW)
        for number, (token_a, token_b, state) in enumerate(states)
    ]


def paid_by(snapshots: Sequence[Snapshot], amount: int, pair: tuple[str, str] = PAIR) -> int:
    try:
        return best_route(SwapMode.EXACT_IN, *pair, amount, snapshots, (), LIMITS).route.amount_out
    except NoRouteError:
        return 0


def prices_of(snapshots: Sequence[Snapshot], pair: tuple[str, str] = PAIR) -> MarketPrices:
    return MarketPrices(*pair, snapshots, LIMITS)


def limit(order_id: str, amount: int, out: int, version: int = 1, not_before: float = 0) -> RestingLimit:
    return RestingLimit(order_id, *PAIR, amount, out, version, not_before)


def fired_of(book: LimitBook, prices: "MarketPrices | FakePrices") -> list[FiredLimit]:
    return [fired for fired in book.match_pair(PAIR, prices) if fired is not None]


@dataclass
class FakePrices:
    """One price for every amount, and a bound that may be above it."""

    key: int
    bound_key: int
    quoted: list[int] = field(default_factory=list)

    def bound(self, amount: int) -> int:
        return amount * self.bound_key >> 64

    least_bound = bound

    def may_reach(self, amount: int, out: int) -> bool:
        return out <= self.bound(amount)

    def quote(self, amount: int, minimum_out: int) -> int | None:
        assert self.may_reach(amount, minimum_out)
        self.quoted.append(amount)
        return amount * self.key >> 64


def at(price: int, bound: int | None = None) -> FakePrices:
    return FakePrices(price_key(price, 1_000), price_key(bound or price, 1_000))


# The ceiling.

markets = st.lists(
    st.tuples(st.sampled_from([PAIR, PAIR[::-1], ("SOL", "USDC"), ("USDC", "JUP"), ("JUP", "USDC")]), pools),
    min_size=1,
    max_size=6,
).map(lambda listed: snapshots_of(*((*pair, state) for pair, state in listed)))


@settings(max_examples=200, deadline=None)
@given(markets, st.lists(st.integers(0, 10**17), min_size=1, max_size=5), st.integers(1, 6))
def test_no_route_pays_more_than_the_ceiling(
    snapshots: list[Snapshot], amounts: list[int], max_legs: int
) -> None:
    limits = RouteLimits(max_legs=max_legs, min_split_gain_bps=0)
    prices = MarketPrices(*PAIR, snapshots, limits)
    for amount in amounts:
        try:
            route = best_route(SwapMode.EXACT_IN, *PAIR, max(amount, 1), snapshots, (), limits).route
        except NoRouteError:
            continue
        assert prices.may_reach(route.amount_in, route.amount_out)
        assert prices.least_bound(route.amount_in) >= route.amount_out
        assert prices.bound(route.amount_in) >= prices.least_bound(route.amount_in)


@FEW
@given(st.integers(1_000, 10**13))
def test_the_ceiling_of_one_pool_is_what_it_pays(amount: int) -> None:
    snapshots = snapshots_of((*PAIR, CpmmPool(10**13, 10**12 * 3, 2_500, 120_000, 40_000)))
    prices, paid = prices_of(snapshots), paid_by(snapshots, amount)
    assert not prices.may_reach(amount, paid + 10 + paid // 10**6)
    assert prices.least_bound(amount) <= paid + 10 + paid // 10**6


def test_the_ceiling_of_the_paper_market_is_close() -> None:
    market = a_market()
    snapshots = [
        Snapshot(PoolRef(p.id, p.dex, p.token_a, p.token_b), p.state, market.now(SLOT))
        for p in market.pools.values()
    ]
    for pair in (("SOL", "USDC"), ("SOL", "RAY"), ("USDT", "BONK")):
        prices = prices_of(snapshots, pair)
        for amount in (10**8, 10**10, 10**11):
            # Two basis points: a split is chosen only where it gains more than one.
            paid = paid_by(snapshots, amount, pair)
            assert paid <= prices.least_bound(amount) <= paid * 10_002 // 10_000


def test_where_nothing_trades_nothing_is_paid() -> None:
    prices = prices_of([])
    assert (prices.bound(1), prices.least_bound(1), prices.quote(1, 1)) == (0, 0, None)
    assert not prices.may_reach(1, 1)
    book = LimitBook()
    book.add(limit("a", 1, 1))
    assert fired_of(book, prices) == []


def test_an_order_larger_than_the_market_does_not_fire() -> None:
    snapshots = snapshots_of((*PAIR, CpmmPool(U64_MAX - 1_000, 10**12, 2_500)))
    book = LimitBook(rotation=ALL)
    book.add(limit("a", 10**6, 1))
    assert fired_of(book, prices_of(snapshots)) == []
    assert "a" in book


# The book against a plain look at every order.


@dataclass
class Model:
    """What the book is compared with: a dict, and an exact quote for every order."""

    book: LimitBook
    rotation: int = ALL
    orders: dict[str, RestingLimit] = field(default_factory=dict)
    fired: set[tuple[str, int]] = field(default_factory=set)

    def add(self, order: RestingLimit) -> None:
        assert self.book.add(order)
        self.orders[order.order_id] = order

    def discard(self, order_id: str) -> None:
        self.book.discard(order_id)
        self.orders.pop(order_id, None)

    def change(self, snapshots: Sequence[Snapshot], now: float) -> None:
        self.book.admit(now)
        marketable = {
            order.order_id: order
            for order in self.orders.values()
            if order.not_before <= now and paid_by(snapshots, order.amount_in) >= order.limit_out
        }
        fired = fired_of(self.book, prices_of(snapshots))
        for each in fired:
            order = each.order
            assert self.orders[order.order_id] == order
            assert order.limit_out <= each.amount_out <= paid_by(snapshots, order.amount_in)
            assert (order.order_id, order.version) not in self.fired
            self.fired.add((order.order_id, order.version))
        assert len(fired) == len({each.order.order_id for each in fired})
        assert {each.order.order_id for each in fired} == marketable.keys()
        for order_id in marketable:
            del self.orders[order_id]
        assert len(self.book) == len(self.orders)
        assert all(order_id in self.book for order_id in self.orders)


def play(model: Model, paths: Sequence[Sequence[Snapshot]], draw: Random) -> None:
    """Place, amend and cancel orders around the market at random while it changes."""
    version = 0
    for now, snapshots in enumerate(paths):
        for _ in range(draw.randint(0, 12)):
            version += 1
            order_id = str(draw.randint(1, 40))
            if draw.random() < 0.2:
                model.discard(order_id)
                continue
            amount = int(10 ** draw.uniform(0, 13))
            paid = paid_by(snapshots, amount) or draw.randint(1, 10**6)
            # From far below to far above, and most within a basis point or two.
            spread = draw.choice((10**2, 10**4, 10**6, 10**9))
            out = max(1, paid + paid * draw.randint(-100, 100) // spread + draw.randint(-1, 1))
            not_before = draw.choice((0, 0, 0, now + draw.randint(1, 5)))
            model.add(limit(order_id, amount, min(out, U64_MAX), version, not_before))
        model.change(snapshots, now)


def after_trades(states: list[Listed], draw: Random) -> list[Listed]:
    """Return pools after liquidity has come, gone or been traded: their shapes change too."""
    after: list[Listed] = []
    for token_a, token_b, state in states:
        assert isinstance(state, CpmmPool)
        factor_0, factor_1 = (
            draw.choice((1.0, draw.uniform(0.999, 1.001), draw.uniform(0.5, 2))) for _ in "01"
        )
        changed = replace(state, vault_0=int(state.vault_0 * factor_0), vault_1=int(state.vault_1 * factor_1))
        after.append((token_a, token_b, changed))
    return after


@FEW
@given(st.integers(0, 10**9), st.integers(1, 3), st.booleans())
def test_marketable_orders_fire_at_once_whatever_the_market_does(seed: int, direct: int, hub: bool) -> None:
    draw = Random(seed)
    pairs = [PAIR, PAIR[::-1], PAIR][:direct] + ([("SOL", "USDC"), ("JUP", "USDC")] if hub else [])
    states: list[Listed] = [
        (*pair, CpmmPool(draw.randint(10**9, 10**12), draw.randint(10**9, 10**12), 2_500)) for pair in pairs
    ]
    paths = []
    for _ in range(8):
        states = after_trades(states, draw)
        paths.append(snapshots_of(*states))
    play(Model(LimitBook(rotation=ALL)), paths, draw)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**9))
def test_in_the_paper_market_too(seed: int) -> None:
    draw, market = Random(seed), a_market(seed)
    slot, paths = SLOT, []
    for _ in range(5):
        slot += draw.choice((5, 100, 10_000))
        market.move(slot)
        paths.append(
            [
                Snapshot(PoolRef(p.id, p.dex, p.token_a, p.token_b), p.state, market.now(slot))
                for p in market.pools.values()
            ]
        )
    play(Model(LimitBook(rotation=ALL)), paths, draw)


def test_the_bound_spares_nearly_all_quotes() -> None:
    snapshots = snapshots_of((*PAIR, CpmmPool(10**12, 10**12, 2_500)))
    book, draw = LimitBook(), Random(1)
    for number in range(2_000):
        amount = draw.randint(10**9, 10**11)
        low, high = paid_by(snapshots, amount) + 1, amount * 9_975 // 10_000
        book.add(limit(str(number), amount, draw.randint(low, high)))
    quoted = []

    class Counting(MarketPrices):
        def quote(self, amount: int, minimum_out: int) -> int | None:
            quoted.append(amount)
            return super().quote(amount, minimum_out)

    assert fired_of(book, Counting(*PAIR, snapshots, LIMITS)) == []
    assert len(quoted) <= 5


# What an order's shortfall asks for.


def test_an_unpaid_order_is_quoted_again_when_the_bound_has_risen_by_its_shortfall() -> None:
    book = LimitBook(rotation=0)
    book.add(limit("a", 10**9, 10**9))
    for prices, asked in (
        (at(990, 1_000), True),
        (at(990, 1_000), False),
        (at(995, 1_005), False),
        (at(1_100, 1_010), False),
        (at(999, 1_011), True),
        (at(1_000, 1_011), False),
        (at(1_000, 1_013), True),
    ):
        fired = fired_of(book, prices)
        assert bool(prices.quoted) is asked
    assert [each.amount_out for each in fired] == [10**9]
    assert len(book) == 0


def test_the_rotation_finds_orders_that_the_bound_misses() -> None:
    book = LimitBook(rotation=4)
    for number in range(10):
        book.add(limit(str(number), 10**9, 10**9))
    assert fired_of(book, at(900, 1_000)) == []
    asked = []
    for _ in range(3):
        prices = at(900, 1_000)
        fired_of(book, prices)
        asked.append(len(prices.quoted))
    assert asked == [4, 4, 4]
    found = [len(fired_of(book, at(1_000))) for _ in range(4)]
    assert found == [4, 4, 2, 0]


def test_the_rotation_takes_the_longest_waiting_orders() -> None:
    book = LimitBook(rotation=1)
    for number in range(3):
        book.add(limit(str(number), 10**9 + number, 10**9))
    fired_of(book, at(900, 1_000))
    turns = []
    for _ in range(6):
        prices = at(900, 1_000)
        fired_of(book, prices)
        turns += prices.quoted
    assert sorted(turns[:3]) == [10**9, 10**9 + 1, 10**9 + 2]
    assert turns[:3] == turns[3:]


def test_a_reset_has_them_all_quoted_again() -> None:
    book = LimitBook(rotation=0)
    for number in range(10):
        book.add(limit(str(number), 10**9, 10**9))
    fired_of(book, at(900, 1_000))
    assert fired_of(book, at(1_000)) == []
    book.reset(PAIR)
    book.reset(("JUP", "SOL"))
    assert len(fired_of(book, at(1_000))) == 10


def test_an_order_without_any_quote_is_quoted_when_the_bound_rises() -> None:
    class Refusing(FakePrices):
        def quote(self, amount: int, minimum_out: int) -> int | None:
            super().quote(amount, minimum_out)
            return None

    book = LimitBook(rotation=0)
    book.add(limit("a", 10**9, 10**9))
    first = Refusing(0, price_key(2, 1))
    assert fired_of(book, first) == []
    assert first.quoted
    assert fired_of(book, at(2_000)) == []
    assert len(fired_of(book, at(2_001))) == 1


# Coming and going.


def test_orders_fire_by_price_and_of_equals_the_first_to_come() -> None:
    book = LimitBook()
    for order_id, out in (("c", 990), ("a", 900), ("b", 900), ("d", 1_001)):
        book.add(limit(order_id, 1_000, out))
    fired = fired_of(book, at(1_000))
    assert [each.order.order_id for each in fired] == ["a", "b", "c"]
    assert all(each.amount_out == 1_000 for each in fired)
    assert "d" in book
    assert list(book.pairs) == [PAIR]
    book.discard("d")
    book.discard("d")
    assert not book.pairs


def test_a_later_version_takes_an_order_s_place_and_an_earlier_one_does_not() -> None:
    book = LimitBook()
    assert book.add(limit("a", 1_000, 2_000, version=3))
    assert not book.add(limit("a", 1_000, 900, version=2))
    assert not book.add(limit("a", 1_000, 900, version=3))
    assert fired_of(book, at(1_000)) == []
    assert book.add(limit("a", 10, 9, version=4))
    assert len(book) == 1
    assert [each.order.version for each in fired_of(book, at(1_000))] == [4]


def test_another_pair_s_market_fires_nothing() -> None:
    book = LimitBook()
    book.add(limit("a", 1_000, 1))
    assert not any(book.match_pair(("JUP", "SOL"), at(1_000)))


def test_an_order_waits_for_its_time() -> None:
    book = LimitBook()
    book.add(limit("late", 1_000, 900, not_before=20))
    book.add(limit("soon", 1_000, 900, not_before=10))
    book.add(limit("gone", 1_000, 900, not_before=5))
    book.discard("gone")
    assert (len(book), book.next_due) == (2, 10)
    assert not book.pairs
    assert fired_of(book, at(1_000)) == []
    assert book.match_order("soon", at(1_000)) is None
    assert book.admit(9.9) == []
    assert [order.order_id for order in book.admit(10)] == ["soon"]
    assert [each.order.order_id for each in fired_of(book, at(1_000))] == ["soon"]
    dues = [book.next_due]
    book.add(limit("late", 1_000, 900, version=2))
    dues.append(book.next_due)
    assert dues == [20, None]
    assert book.admit(99) == []
    assert len(fired_of(book, at(1_000))) == 1


def test_orders_removed_while_waiting_are_not_kept() -> None:
    book = LimitBook()
    for number in range(1_000):
        book.add(limit(str(number), 1_000, 900, not_before=10))
        book.discard(str(number))
    assert len(book._waiting) < 200


def test_one_order_is_matched() -> None:
    book = LimitBook()
    book.add(limit("a", 1_000, 1_000))
    book.add(limit("b", 1_000, 900))
    prices = FakePrices(999 << 54, 999 << 54)
    assert book.match_order("a", prices) is None
    assert book.match_order("x", prices) is None
    fired = book.match_order("b", prices)
    assert fired is not None
    assert (fired.order.order_id, fired.amount_out) == ("b", 1_000 * 999 >> 10)
    assert "b" not in book
    assert "a" in book


def test_the_book_may_change_while_orders_are_matched() -> None:
    book = LimitBook()
    for number in range(50):
        book.add(limit(str(number), 1_000 + number, 900))
    running = book.match_pair(PAIR, at(1_000))
    first = next(fired for fired in running if fired is not None)
    left = [order_id for order_id in map(str, range(50)) if order_id in book]
    assert first.order.order_id not in left
    book.discard(left[0])
    book.add(limit(left[1], 1_000, 5_000, version=2))
    book.add(limit("new", 1, 1))
    fired = {each.order.order_id for each in running if each is not None}
    assert fired - {"new"} == set(left[2:])
    assert left[1] in book


def test_there_is_a_breath_at_least_every_few_hundred_orders() -> None:
    book = LimitBook(rotation=0)
    for number in range(3_000):
        book.add(limit(str(number), 10**9, 10**9 + number))
    fired_of(book, at(1, 2_000))
    # All are tested, none is quoted again.
    assert list(book.match_pair(PAIR, at(1, 2_000))) == [None] * (3_000 // 256 + 1)


@pytest.mark.parametrize("amount", [1, 7, 8, 15, 16, 17, 31, 32, 1_000, U64_MAX])
def test_every_amount_has_a_bucket_that_is_at_most_an_eighth_lower(amount: int) -> None:
    book = LimitBook()
    book.add(limit("a", amount, 1))
    [floor] = book._pairs[PAIR]
    assert floor <= amount < floor + max(1, floor // 8 + 1)
    assert len(fired_of(book, at(1_000))) == 1


def test_an_order_takes_less_than_a_kilobyte() -> None:
    number, draw = 5_000, Random(1)
    tracemalloc.start()
    book = LimitBook()
    for index in range(number):
        amount = int(10 ** draw.uniform(3, 15))
        book.add(limit(f"{index:036d}", amount, draw.randint(10**3, 10**18)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / number < 1_000
