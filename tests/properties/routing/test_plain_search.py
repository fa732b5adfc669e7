"""Routes against a plain search: what trying finds, a route pays.

On the default market, and on one whose prices lie close together; at every size, from a unit to more than
there is.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from service.chains.paper.market import Market
from service.chains.venue import PoolRef, Snapshot
from service.domain.quote import Choice, SwapMode
from service.domain.tokens import TOKENS
from service.routing import HUBS, NoRouteError, RouteLimits, best_route
from service.settings import Range
from tests.support.market import SLOT, a_market
from tests.support.plain_search import PlainSearch

BAR = 100_000
"""A route may lose one part in so many to what a plain search finds."""

BEATEN = Path(__file__).parents[2] / "golden" / "routing_beaten.json"
WIDE, NARROW = Range(20_000, 50_000), Range(300, 300)


class Order(NamedTuple):
    variance: Range
    seed: int
    slot: int
    token_in: str
    token_out: str
    mode: SwapMode
    amount: int
    margin_bps: int = 0


@lru_cache(maxsize=8)
def market_at(variance: Range, seed: int, slot: int) -> Market:
    """Return a market that was founded earlier, and has moved since."""
    market = a_market(seed, variance=variance)
    market.move(slot)
    return market


def snapshots_of(order: Order) -> list[Snapshot]:
    market = market_at(order.variance, order.seed, order.slot)
    pairs = [(order.token_in, order.token_out)]
    for hub in HUBS:
        if hub not in pairs[0]:
            pairs += [(order.token_in, hub), (hub, order.token_out)]
    return [
        Snapshot(PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b), pool.state, market.now(order.slot))
        for pair in pairs
        for pool in market.pools_of(*pair)
    ]


def chosen(order: Order, snapshots: Sequence[Snapshot]) -> Choice | None:
    limits = RouteLimits(min_split_gain_bps=0, hop_margin_bps=order.margin_bps)
    try:
        return best_route(order.mode, order.token_in, order.token_out, order.amount, snapshots, (), limits)
    except NoRouteError:
        return None


def lost(order: Order, found: int, paid: int) -> int:
    return found - paid if order.mode is SwapMode.EXACT_IN else paid - found


def check(order: Order, found: int | None = None) -> None:
    """Check a route against what a plain search finds, or has found."""
    snapshots = snapshots_of(order)
    tokens, margin_bps = (order.token_in, order.token_out), order.margin_bps
    search = PlainSearch(order.mode, *tokens, order.amount, snapshots, margin_bps=margin_bps)
    choice = chosen(order, snapshots)
    if found is None:
        found = search.best(None if choice is None else choice.route)
    if choice is None:
        assert found is None, order
        return
    assert found is not None
    route = choice.route
    paid = route.amount_out if order.mode is SwapMode.EXACT_IN else route.amount_in
    single = search.single()
    # The exact quote of every path is looked at where roundings decide, and beaten or taken.
    if single is not None:
        assert lost(order, single, paid) <= paid // BAR, order
    # A unit that a split rounds away may be much of the smallest leg.
    unit = -(-paid // min(min(leg.amount_in, leg.amount_out) for leg in route.legs))
    assert lost(order, found, paid) <= paid // BAR + unit, (order, found, paid)


def random_order(seed: int) -> Order:
    random = Random(f"plain search {seed}")
    token_in, token_out = random.sample(list(TOKENS), 2)
    return Order(
        random.choice([WIDE, NARROW]),
        random.randrange(6),
        SLOT + random.choice([0, 50_000, 216_000]),
        token_in,
        token_out,
        random.choice(list(SwapMode)),
        int(10 ** random.uniform(0, 14)),
        random.choice([5, 5, 5, 200]),
    )


@pytest.mark.parametrize("block", range(6))
def test_a_route_pays_what_a_plain_search_finds(block: int) -> None:
    for order in sorted(map(random_order, range(10 * block, 10 * block + 10)), key=lambda each: each[1:3]):
        check(order)


@pytest.mark.long
@pytest.mark.parametrize("block", range(30))
def test_three_thousand_routes_pay_what_a_plain_search_finds(block: int) -> None:
    orders = map(random_order, range(1_000 + 100 * block, 1_100 + 100 * block))
    for order in sorted(orders, key=lambda each: (each.seed, each.slot)):
        check(order)


def recorded_orders() -> list[tuple[Order, int]]:
    """Return orders that a route once paid less than a plain search found, and what it found.

    It was found without a margin between two pools.
    """
    recorded = [
        (
            Order(
                WIDE if "-" in variance else NARROW,
                seed,
                slot,
                each["token_in"],
                each["token_out"],
                SwapMode(each["mode"]),
                each["amount"],
            ),
            each["brute"],
        )
        for each in json.loads(BEATEN.read_text())
        for variance, seed, slot in [each["market"]]
    ]
    # Of an ordinary size: two paths that end lower, where the one alone is no better than another set.
    ordinary = Order(WIDE, 35, SLOT + 50_000, "JUP", "RAY", SwapMode.EXACT_IN, 447_434_798)
    # And one whose best set is hidden behind hundreds at the price in whose bin another one ends.
    hidden = Order(NARROW, 3, SLOT + 50_000, "RAY", "JUP", SwapMode.EXACT_IN, 5_735_608_831)
    return [*recorded, (ordinary, 161_824_907), (hidden, 15_857_239_549)]


@pytest.mark.parametrize(("order", "found"), recorded_orders())
def test_what_a_plain_search_once_beat_is_paid(order: Order, found: int) -> None:
    check(order, found)
