"""The paper market: the effects of a transaction on pools and wallets, and its invariants."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.amm import (
    AmmV4Pool,
    ChainTime,
    CpmmPool,
    DammV2Pool,
    Direction,
    DlmmPool,
    PoolState,
    SwapQuote,
)
from service.amm.meteora_damm_v2_fees import BaseFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters
from service.amm.quote import Ratio
from service.chains.paper.market import BAND_PPM, TRADERS, USER, Changes, Execution, Market
from service.chains.paper.pool import PaperPool, owed
from service.chains.paper.pool_json import PROGRAMS
from service.chains.paper.transaction import PaperTransaction, Signer, decode
from service.chains.venue import PoolRef, Snapshot, Swap
from service.domain.amounts import U64_MAX
from service.domain.failures import FailureCode
from service.domain.leg_limits import LegLimits
from service.domain.quote import Dex, Route, SwapMode
from service.routing import NoRouteError, RouteLimits, best_route
from service.settings import PPM, FailureRates, Range
from tests.support.market import (
    EVERY_OUTCOME,
    SLOT,
    SLOT_MS,
    VARIANCE,
    Leg,
    RandomTrader,
    a_market,
    a_transaction,
    band_ppm,
    distance_ppm,
)

MODEST = settings(max_examples=25, deadline=None)


class Signed(NamedTuple):
    """A route and its transaction."""

    route: Route
    transaction: PaperTransaction


EXACT_IN, EXACT_OUT = SwapMode.EXACT_IN, SwapMode.EXACT_OUT
DAY_SLOTS = 24 * 3_600_000 // SLOT_MS

# One pool of each program, all of them of the same pair; A is SOL.
POOLS = {
    "raydium_cpmm": "raydium:SOL-BONK:cpmm",
    "raydium_amm_v4": "raydium:SOL-BONK:amm-v4",
    "meteora_dlmm": "meteora:SOL-BONK:dlmm",
    "meteora_damm_v2": "meteora:SOL-BONK:damm-v2",
}
of_every_program = pytest.mark.parametrize("pool_id", POOLS.values(), ids=POOLS.keys())

SELL: dict[str, tuple[Leg, ...]] = {pool_id: ((pool_id, "SOL", "BONK"),) for pool_id in POOLS.values()}
BUY: dict[str, tuple[Leg, ...]] = {pool_id: ((pool_id, "BONK", "SOL"),) for pool_id in POOLS.values()}

ONE_SOL = 10**9


@dataclass(frozen=True)
class Picture:
    """All that a market is, for comparing."""

    pools: Mapping[str, PaperPool]
    wallets: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, market: Market) -> "Picture":
        return cls(dict(market.pools), dict(market.wallets))


def changed_pool(market: Market, pool_id: str, **changes: Any) -> Market:
    """Return the market with a pool's state changed."""
    pools = [
        replace(pool, state=replace(pool.state, **changes)) if pool.id == pool_id else pool  # type: ignore[type-var]
        for pool in market.pools.values()
    ]
    return a_market(pools=pools)


def fails(market: Market, transaction: Any, slot: int = SLOT) -> FailureCode | None:
    """Execute, check that a failure leaves no trace, and return it."""
    before = Picture.of(market)
    execution = market.execute(transaction, slot)
    if execution.failure is not None:
        assert execution == Execution(transaction.signature, None, None, execution.failure)
        assert Picture.of(market) == before
        assert market.take_changes() == Changes([], {}, {})
    return execution.failure


# --- what an execution pays and gets


@of_every_program
@pytest.mark.parametrize("legs", [SELL, BUY], ids=["sell", "buy"])
def test_an_exact_input_gets_what_the_pool_quotes(pool_id: str, legs: dict[str, tuple[Leg, ...]]) -> None:
    market = a_market()
    pool = market.pools[pool_id]
    direction = Direction.A_TO_B if legs is SELL else Direction.B_TO_A
    quote = pool.state.quote_exact_in(direction, 10**10, market.now(SLOT))
    execution = market.execute(a_transaction((10**10, legs[pool_id]), minimum_out=quote.amount_out), SLOT)
    assert execution == Execution("signature", 10**10, quote.amount_out, None)


@of_every_program
def test_an_exact_output_costs_what_the_pool_quotes(pool_id: str) -> None:
    market = a_market()
    quote = market.pools[pool_id].state.quote_exact_out(Direction.B_TO_A, ONE_SOL, market.now(SLOT))
    transaction = a_transaction(
        (ONE_SOL, BUY[pool_id]), mode=EXACT_OUT, maximum_in=quote.amount_in, minimum_out=ONE_SOL
    )
    execution = market.execute(transaction, SLOT)
    assert execution == Execution("signature", quote.amount_in, ONE_SOL, None)


TWO_LEGS: tuple[Leg, ...] = (
    ("meteora:SOL-JUP:dlmm", "JUP", "SOL"),
    ("raydium:SOL-BONK:cpmm", "SOL", "BONK"),
)


def test_two_legs_chain_and_touch_nothing_in_between() -> None:
    market = a_market()
    now, before = market.now(SLOT), dict(market.wallets)
    first, second = (market.pools[pool_id].state for pool_id, _, _ in TWO_LEGS)
    between = first.quote_exact_in(Direction.B_TO_A, 10**8, now).amount_out
    amount_out = second.quote_exact_in(Direction.A_TO_B, between, now).amount_out
    assert market.execute(a_transaction((10**8, TWO_LEGS)), SLOT).amount_out == amount_out
    gains = {token: market.wallets[USER, token] - before[USER, token] for token in ("JUP", "SOL", "BONK")}
    assert gains == {"JUP": -(10**8), "SOL": 0, "BONK": amount_out}


def test_an_exact_output_of_two_legs_is_worked_out_from_its_end() -> None:
    market = a_market()
    now = market.now(SLOT)
    first, second = (market.pools[pool_id].state for pool_id, _, _ in TWO_LEGS)
    between = second.quote_exact_out(Direction.A_TO_B, 10**9, now).amount_in
    amount_in = first.quote_exact_out(Direction.B_TO_A, between, now).amount_in
    execution = market.execute(a_transaction((10**9, TWO_LEGS), mode=EXACT_OUT), SLOT)
    assert execution == Execution("signature", amount_in, 10**9, None)


def test_paths_add_up_and_the_limits_are_for_all_of_them() -> None:
    market = a_market()
    amounts = dict(zip(POOLS.values(), (10**9, 10**10, 10**11, 10**8), strict=True))
    quotes = {
        pool_id: market.pools[pool_id].state.quote_exact_in(Direction.A_TO_B, amount, market.now(SLOT))
        for pool_id, amount in amounts.items()
    }
    total = sum(quote.amount_out for quote in quotes.values())
    paths = [(amount, SELL[pool_id]) for pool_id, amount in amounts.items()]
    assert fails(market, a_transaction(*paths, minimum_out=total + 1)) is FailureCode.SLIPPAGE_EXCEEDED
    execution = market.execute(a_transaction(*paths, minimum_out=total), SLOT)
    assert execution == Execution("signature", sum(amounts.values()), total, None)


def test_a_second_path_through_a_pool_meets_what_the_first_has_left() -> None:
    pool_id = POOLS["raydium_amm_v4"]
    market = a_market()
    state, now = market.pools[pool_id].state, market.now(SLOT)
    first = state.quote_exact_in(Direction.A_TO_B, 10**12, now)
    second = first.next_state().quote_exact_in(Direction.A_TO_B, 10**12, now)
    execution = market.execute(a_transaction((10**12, SELL[pool_id]), (10**12, SELL[pool_id])), SLOT)
    assert execution.amount_out == first.amount_out + second.amount_out


@dataclass(frozen=True)
class Generous:
    """A pool that pays a unit more than it is asked for, one for one."""

    def price(self, _direction: Direction) -> Ratio:
        return Ratio(1, 1)

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[Generous]":
        return self.quote_exact_out(direction, amount, now)

    def quote_exact_out(self, _direction: Direction, amount: int, _now: ChainTime) -> "SwapQuote[Generous]":
        return SwapQuote(amount, amount + 1, 0, 0, 0, lambda: self)


def test_what_is_left_over_between_two_legs_is_the_users() -> None:
    market = a_market()
    pool = PaperPool("a", Dex.RAYDIUM, "raydium_cpmm", "WIF", "SOL", Generous(), 0, 10**6, SLOT)
    market = a_market(pools=[*market.pools.values(), pool], user={"WIF": 10**6, "SOL": 7})
    path = (("a", "WIF", "SOL"), SELL["raydium:SOL-BONK:cpmm"][0])
    execution = market.execute(a_transaction((10**4, path), mode=EXACT_OUT), SLOT)
    assert execution.amount_out == 10**4
    assert market.wallets[USER, "SOL"] == 8


# --- the limits of each leg


def signed(market: Market, token_in: str, token_out: str, amount: int, mode: SwapMode) -> Signed:
    """Return the best route on a market, and its transaction without any slippage."""
    snapshots = [
        Snapshot(PoolRef(pool.id, pool.dex, *pool.pair), pool.state, market.now(SLOT))
        for pool in market.pools.values()
    ]
    limits = RouteLimits(min_split_gain_bps=0)
    route = best_route(mode, token_in, token_out, amount, snapshots, (), limits).route
    swap = Swap("0190a8f5-0000-7000-8000-000000000000", 1, route, *route.amounts)
    return Signed(route, decode(Signer(1, limits.hop_margin_bps).sign(swap, SLOT)))


def quoted_residue(route: Route) -> tuple[tuple[str, int], ...]:
    left: Counter[str] = Counter()
    for path in route.paths:
        for one, other in pairwise(path.legs):
            left[one.token_out] += one.amount_out - other.amount_in
    return tuple(sorted((token, amount) for token, amount in left.items() if amount))


@settings(max_examples=60, deadline=None)
@given(
    st.permutations(["SOL", "USDC", "USDT", "JUP", "RAY", "BONK"]),
    st.floats(0, 14).map(lambda power: int(10**power)),
    st.sampled_from(SwapMode),
)
def test_a_route_executes_exactly_as_it_was_quoted(tokens: list[str], amount: int, mode: SwapMode) -> None:
    market = a_market()
    before = dict(market.wallets)
    try:
        route, transaction = signed(market, tokens[0], tokens[1], amount, mode)
    except NoRouteError:
        return
    execution = market.execute(transaction, SLOT)
    residue = quoted_residue(route)
    assert execution == Execution(transaction.signature, *route.amounts, None, residue)
    gains = {
        token: balance - before.get((owner, token), 0)
        for (owner, token), balance in market.wallets.items()
        if owner == USER and balance != before.get((owner, token), 0)
    }
    assert gains == {tokens[0]: -route.amount_in, tokens[1]: route.amount_out, **dict(residue)}


@pytest.mark.parametrize("mode", SwapMode)
def test_what_the_first_leg_pays_above_its_margin_stays_in_the_wallet(mode: SwapMode) -> None:
    market = a_market()
    before = market.totals()
    route, transaction = signed(market, "JUP", "BONK", 10**9, mode)
    [(token, residue)] = market.execute(transaction, SLOT).residue
    [path] = route.paths
    first, second = path.legs
    assert (token, residue) == (first.token_out, first.amount_out - second.amount_in)
    # Five of ten thousand, apart from one unit of rounding.
    whole = first.amount_out if mode is EXACT_IN else second.amount_in
    assert abs(residue - whole * 5 // 10_000) <= 1
    assert market.totals() == before


def test_the_second_leg_sells_the_amount_that_was_signed_whatever_the_first_one_pays() -> None:
    market = a_market()
    now = market.now(SLOT)
    first, second = (market.pools[pool_id].state for pool_id, _, _ in TWO_LEGS)
    paid = first.quote_exact_in(Direction.B_TO_A, 10**8, now).amount_out
    sold = paid // 2
    amount_out = second.quote_exact_in(Direction.A_TO_B, sold, now).amount_out
    limits = (LegLimits(10**8, sold), LegLimits(sold, 1))
    execution = market.execute(a_transaction((10**8, TWO_LEGS), limits=[limits]), SLOT)
    assert execution == Execution("signature", 10**8, amount_out, None, (("SOL", paid - sold),))


def test_a_leg_below_its_own_minimum_fails_the_transaction_although_the_total_is_paid() -> None:
    market = a_market()
    pool_ids = POOLS["raydium_cpmm"], POOLS["raydium_amm_v4"]
    paid = [
        market.pools[pool_id].state.quote_exact_in(Direction.A_TO_B, ONE_SOL, market.now(SLOT)).amount_out
        for pool_id in pool_ids
    ]
    paths = [(ONE_SOL, SELL[pool_id]) for pool_id in pool_ids]

    def sale(*minima: int, signs_legs: bool = True) -> PaperTransaction:
        limits = [(LegLimits(ONE_SOL, minimum),) for minimum in minima]
        return a_transaction(*paths, minimum_out=sum(paid), limits=limits if signs_legs else None)

    assert fails(market, sale(paid[0] + 1, paid[1] - 1)) is FailureCode.SLIPPAGE_EXCEEDED
    assert fails(market, sale(paid[0] - 1, paid[1] + 1)) is FailureCode.SLIPPAGE_EXCEEDED
    # An earlier version signed the total only.
    assert fails(a_market(), sale(0, 0, signs_legs=False)) is None
    assert fails(market, sale(*paid)) is None


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("leg", [0, 1])
def test_each_leg_of_a_path_keeps_its_own_limit(mode: SwapMode, leg: int) -> None:
    market = a_market()
    now = market.now(SLOT)
    first, second = (market.pools[pool_id].state for pool_id, _, _ in TWO_LEGS)
    if mode is EXACT_IN:
        paid = first.quote_exact_in(Direction.B_TO_A, 10**8, now).amount_out
        out = second.quote_exact_in(Direction.A_TO_B, paid, now).amount_out
        kept = [LegLimits(10**8, paid), LegLimits(paid, out)]
        missed = [LegLimits(10**8, paid + 1), LegLimits(paid, out + 1)]
        amount = 10**8
    else:
        need = second.quote_exact_out(Direction.A_TO_B, 10**9, now).amount_in
        cost = first.quote_exact_out(Direction.B_TO_A, need, now).amount_in
        kept = [LegLimits(cost, need), LegLimits(need, 10**9)]
        missed = [LegLimits(cost - 1, need), LegLimits(need - 1, 10**9)]
        amount = 10**9
    # The order's own limits are kept in any case.
    limits = [missed[each] if each == leg else kept[each] for each in (0, 1)]
    transaction = a_transaction((amount, TWO_LEGS), mode=mode, limits=[tuple(limits)])
    assert fails(market, transaction) is FailureCode.SLIPPAGE_EXCEEDED
    assert fails(market, a_transaction((amount, TWO_LEGS), mode=mode, limits=[tuple(kept)])) is None


def test_an_exact_output_buys_the_signed_amount_between_its_legs_and_keeps_the_rest() -> None:
    market = a_market()
    now = market.now(SLOT)
    first, second = (market.pools[pool_id].state for pool_id, _, _ in TWO_LEGS)
    need = second.quote_exact_out(Direction.A_TO_B, 10**9, now).amount_in
    bought = 2 * need
    cost = first.quote_exact_out(Direction.B_TO_A, bought, now).amount_in
    limits = (LegLimits(cost, bought), LegLimits(bought, 10**9))
    transaction = a_transaction((10**9, TWO_LEGS), mode=EXACT_OUT, limits=[limits])
    assert market.execute(transaction, SLOT) == Execution(
        "signature", cost, 10**9, None, (("SOL", bought - need),)
    )


# --- why an execution fails


@of_every_program
def test_slippage(pool_id: str) -> None:
    market = a_market()
    state, now = market.pools[pool_id].state, market.now(SLOT)
    paid = state.quote_exact_in(Direction.A_TO_B, ONE_SOL, now).amount_out
    cost = state.quote_exact_out(Direction.A_TO_B, 10**9, now).amount_in
    code = FailureCode.SLIPPAGE_EXCEEDED
    assert fails(market, a_transaction((ONE_SOL, SELL[pool_id]), minimum_out=paid + 1)) is code
    assert fails(market, a_transaction((ONE_SOL, SELL[pool_id]), maximum_in=ONE_SOL - 1)) is code
    exact_out = a_transaction((10**9, SELL[pool_id]), mode=EXACT_OUT, maximum_in=cost - 1)
    assert fails(market, exact_out) is code
    assert fails(market, replace(exact_out, maximum_in=cost)) is None


@of_every_program
@pytest.mark.parametrize("mode", SwapMode)
def test_a_wallet_pays_no_more_than_it_holds(pool_id: str, mode: SwapMode) -> None:
    state = a_market().pools[pool_id].state
    cost = state.quote_exact_out(Direction.A_TO_B, 10**9, a_market().now(SLOT)).amount_in
    transaction = a_transaction((cost if mode is EXACT_IN else 10**9, SELL[pool_id]), mode=mode)
    market = a_market(user={"SOL": cost - 1})
    assert fails(market, transaction) is FailureCode.INSUFFICIENT_BALANCE
    market = a_market(user={"SOL": cost})
    assert fails(market, transaction) is None
    assert market.wallets[USER, "SOL"] == 0


def test_a_wallet_holds_no_more_than_an_account_can() -> None:
    legs = SELL[POOLS["raydium_cpmm"]]
    market = a_market(user={"BONK": U64_MAX - 5})
    assert fails(market, a_transaction((ONE_SOL, legs))) is FailureCode.INSUFFICIENT_LIQUIDITY


@of_every_program
def test_too_small(pool_id: str) -> None:
    assert fails(a_market(), a_transaction((1, BUY[pool_id]))) is FailureCode.AMOUNT_TOO_SMALL
    assert fails(a_market(), a_transaction((0, SELL[pool_id]))) is FailureCode.AMOUNT_TOO_SMALL


@of_every_program
def test_too_large(pool_id: str) -> None:
    market = a_market()
    more_than_all = market.pools[pool_id].vault_b + 1
    transaction = a_transaction((more_than_all, SELL[pool_id]), mode=EXACT_OUT)
    assert fails(market, transaction) is FailureCode.INSUFFICIENT_LIQUIDITY
    # More than fits into the pool's account.
    transaction = a_transaction((U64_MAX, SELL[pool_id]))
    assert fails(market, transaction) is FailureCode.INSUFFICIENT_LIQUIDITY


OFF: list[tuple[str, dict[str, int], FailureCode]] = [
    ("raydium_cpmm", {"status": 4}, FailureCode.POOL_DISABLED),
    ("raydium_cpmm", {"open_time_s": 2**40}, FailureCode.POOL_NOT_OPEN),
    ("raydium_cpmm", {"creator_fee_on": 3}, FailureCode.UNSUPPORTED_POOL),
    ("raydium_amm_v4", {"status": 2}, FailureCode.POOL_DISABLED),
    ("raydium_amm_v4", {"status": 7, "open_time_s": 2**40}, FailureCode.POOL_NOT_OPEN),
    ("raydium_amm_v4", {"status": 1}, FailureCode.UNSUPPORTED_POOL),
    ("meteora_dlmm", {"status": 1}, FailureCode.POOL_DISABLED),
    ("meteora_dlmm", {"pair_type": 1, "activation_point": 2**40}, FailureCode.POOL_NOT_OPEN),
    ("meteora_dlmm", {"pair_type": 9}, FailureCode.UNSUPPORTED_POOL),
    ("meteora_damm_v2", {"status": 1}, FailureCode.POOL_DISABLED),
    ("meteora_damm_v2", {"activation_point": 2**40}, FailureCode.POOL_NOT_OPEN),
    ("meteora_damm_v2", {"collect_fee_mode": 3}, FailureCode.UNSUPPORTED_POOL),
]


@pytest.mark.parametrize(("program", "changes", "code"), OFF)
def test_a_pool_that_does_not_swap(program: str, changes: dict[str, int], code: FailureCode) -> None:
    market = changed_pool(a_market(), POOLS[program], **changes)
    assert fails(market, a_transaction((ONE_SOL, SELL[POOLS[program]]))) is code
    # The traders cannot either; they leave it alone, and do not fail.
    market.move(SLOT + DAY_SLOTS)
    assert POOLS[program] not in market.take_changes().volumes


def test_a_pool_opens_in_its_slot() -> None:
    pool_id = POOLS["meteora_dlmm"]
    market = changed_pool(a_market(), pool_id, pair_type=1, activation_point=SLOT + 1)
    assert fails(market, a_transaction((ONE_SOL, SELL[pool_id])), SLOT) is FailureCode.POOL_NOT_OPEN
    assert fails(market, a_transaction((ONE_SOL, SELL[pool_id])), SLOT + 1) is None


def test_bins_that_were_not_loaded_are_liquidity_that_is_not_there() -> None:
    pool_id = POOLS["meteora_dlmm"]
    state = a_market().pools[pool_id].state
    assert isinstance(state, DlmmPool)
    index = state.active_id // 70
    market = changed_pool(a_market(), pool_id, arrays={index: state.arrays[index]})
    transaction = a_transaction((10**13, SELL[pool_id]))
    assert fails(market, transaction) is FailureCode.INSUFFICIENT_LIQUIDITY


CPMM = POOLS["raydium_cpmm"]
NO_ROUTES: dict[str, Iterable[Leg]] = {
    "another pair's pool": [("raydium:SOL-USDC:cpmm", "SOL", "BONK")],
    "unknown token": [(CPMM, "SOL", "WIF")],
    "gap": [("raydium:SOL-USDC:cpmm", "SOL", "USDC"), (CPMM, "SOL", "BONK")],
    "circle": [(CPMM, "SOL", "BONK"), (CPMM, "BONK", "SOL")],
}


GONE: Iterable[Leg] = [("raydium:SOL-BONK:gone", "SOL", "BONK")]


@pytest.mark.parametrize("mode", SwapMode)
def test_a_pool_that_is_delisted_while_the_transaction_is_under_way(mode: SwapMode) -> None:
    assert fails(a_market(), a_transaction((ONE_SOL, GONE), mode=mode)) is FailureCode.POOL_DISABLED


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("legs", NO_ROUTES.values(), ids=NO_ROUTES.keys())
def test_no_route(legs: Iterable[Leg], mode: SwapMode) -> None:
    assert fails(a_market(), a_transaction((ONE_SOL, legs), mode=mode)) is FailureCode.NO_ROUTE


def test_no_route_for_a_path_that_is_not_the_transactions() -> None:
    good = a_transaction((ONE_SOL, SELL[CPMM]))
    for bad in (replace(good, token_in="USDC"), replace(good, token_out="USDC"), replace(good, paths=())):
        assert fails(a_market(), bad) is FailureCode.NO_ROUTE


@pytest.mark.parametrize("mode", SwapMode)
def test_one_path_that_fails_undoes_the_others(mode: SwapMode) -> None:
    # `fails` compares the whole market with what it was before.
    good = [(ONE_SOL, SELL[pool_id]) for pool_id in POOLS.values()]
    gone = (ONE_SOL, GONE)
    assert fails(a_market(), a_transaction(*good, gone, mode=mode)) is FailureCode.POOL_DISABLED
    assert fails(a_market(), a_transaction(*good, (0, SELL[CPMM]), mode=mode)) is FailureCode.AMOUNT_TOO_SMALL


@pytest.mark.parametrize(
    ("rates", "code"),
    [
        (FailureRates(transient_ppm=PPM), FailureCode.TRANSACTION_FAILED),
        (FailureRates(slippage_ppm=PPM), FailureCode.SLIPPAGE_EXCEEDED),
        (FailureRates(permanent_ppm=PPM), FailureCode.TRANSACTION_REJECTED),
    ],
)
def test_failures_on_demand(rates: FailureRates, code: FailureCode) -> None:
    assert fails(a_market(rates=rates), a_transaction((ONE_SOL, SELL[CPMM]))) is code


def test_a_signatures_luck_is_its_own_forever() -> None:
    rates = FailureRates(100_000, 200_000, 300_000)
    draw = Random(1)
    signatures = [str(number) for number in range(1_000)]
    runs: list[dict[str, FailureCode | None]] = []
    for _ in range(2):
        market = a_market(rates=rates)
        draw.shuffle(signatures)
        runs.append(
            {
                signature: market.execute(
                    a_transaction((10**6, SELL[CPMM]), signature=signature), SLOT
                ).failure
                for signature in signatures
            }
        )
    assert runs[0] == runs[1]
    codes = list(runs[0].values())
    assert 60 < codes.count(FailureCode.TRANSACTION_FAILED) < 140
    assert 150 < codes.count(FailureCode.SLIPPAGE_EXCEEDED) < 250
    assert 240 < codes.count(FailureCode.TRANSACTION_REJECTED) < 360


# --- what the market's own traders do


@of_every_program
@pytest.mark.parametrize("legs", [SELL, BUY], ids=["sell", "buy"])
def test_traders_bring_a_pool_back_at_once(pool_id: str, legs: dict[str, tuple[Leg, ...]]) -> None:
    market = a_market()
    pool, token = market.pools[pool_id], legs[pool_id][0][1]
    held = pool.vault_a if token == "SOL" else pool.vault_b
    before = dict(market.wallets)
    execution = market.execute(a_transaction((held // 10, legs[pool_id])), SLOT)
    assert execution.failure is None
    assert abs(distance_ppm(market, market.pools[pool_id], SLOT)) <= band_ppm(pool)
    assert market.wallets[TRADERS, token] > before[TRADERS, token]
    changes = market.take_changes()
    assert {owner for owner, _ in changes.wallets} == {USER, TRADERS}
    # Theirs is as large as the user's, or nearly.
    volumes = dict(zip(("SOL", "BONK"), changes.volumes[pool_id], strict=True))
    assert execution.amount_in is not None
    assert execution.amount_in * 17 // 10 < volumes[token] < execution.amount_in * 21 // 10


def test_what_is_off_by_less_than_the_band_is_left() -> None:
    market = a_market()
    pool = market.pools[CPMM]
    market.execute(a_transaction((pool.vault_a * BAND_PPM // 3 // PPM, SELL[CPMM])), SLOT)
    assert {owner for owner, _ in market.take_changes().wallets} == {USER}


def test_traders_do_what_their_wallet_allows() -> None:
    market = a_market()
    pool = market.pools[CPMM]
    poor = Market(
        1,
        market.pools.values(),
        {**market.wallets, (TRADERS, "BONK"): 1_000_000},
        clock=market._clock,
        slot_ms=SLOT_MS,
        variance_ppm=VARIANCE,
        failure_rates=FailureRates(),
    )
    poor.execute(a_transaction((pool.vault_a // 10, SELL[CPMM])), SLOT)
    assert poor.wallets[TRADERS, "BONK"] == 0
    assert distance_ppm(poor, poor.pools[CPMM], SLOT) < -10_000


@pytest.mark.parametrize("variance", [VARIANCE, Range(300, 300)], ids=["percents", "basis points"])
def test_the_dexes_prices_lie_the_variance_apart(variance: Range) -> None:
    market = a_market(variance=variance)
    pairs = {(pool.token_a, pool.token_b) for pool in market.pools.values()}
    for slot in range(SLOT, SLOT + DAY_SLOTS, DAY_SLOTS // 97):
        market.move(slot)
        for pair in pairs:
            spread = market.reference.spread(*pair)
            assert variance.low <= spread.ppm <= variance.high
            dear: list[tuple[Fraction, int]] = []
            cheap: list[tuple[Fraction, int]] = []
            for pool in market.pools_of(*pair):
                assert abs(distance_ppm(market, pool, slot)) <= band_ppm(pool)
                price = Fraction(*pool.state.price(Direction.A_TO_B))
                (dear if pool.dex is spread.dearer else cheap).append((price, band_ppm(pool)))
            for one, one_band in dear:
                for other, other_band in cheap:
                    apart = (one - other) / (one + other) * 2 * PPM
                    assert abs(apart - spread.ppm) <= (one_band + other_band) * Fraction(101, 100) + 2


def test_in_a_day_no_pool_leaves_its_range() -> None:
    market = a_market(seed=2)
    for slot in range(SLOT, SLOT + DAY_SLOTS, DAY_SLOTS // 151):
        market.move(slot)
        for pool in market.pools.values():
            assert abs(distance_ppm(market, pool, slot)) <= band_ppm(pool)
            if isinstance(pool.state, DlmmPool):
                # There is something to buy on either side.
                for direction in Direction:
                    quote = pool.state.quote_exact_in(direction, 10**7, market.now(slot))
                    assert quote.price_impact_ppm < 20_000


def test_a_pool_that_cannot_reach_its_target_goes_as_far_as_it_can() -> None:
    pool_id = POOLS["meteora_damm_v2"]
    state = a_market().pools[pool_id].state
    assert isinstance(state, DammV2Pool)
    # Its range ends a little above its price, and the reference will rise above that.
    top = state.sqrt_price * 1_001 // 1_000
    market = changed_pool(a_market(), pool_id, sqrt_max_price=top)
    for slot in range(SLOT, SLOT + DAY_SLOTS, 2_000):
        market.move(slot)
        moved = market.pools[pool_id].state
        assert isinstance(moved, DammV2Pool)
        assert moved.sqrt_price <= top
    assert market.shortfalls() == []


def test_a_step_moves_nothing_twice() -> None:
    market = a_market()
    market.move(SLOT + 1_000)
    assert market.take_changes().pools
    market.move(SLOT + 1_004)
    assert market.take_changes() == Changes([], {}, {})


# --- the books


def test_random_trades_conserve_every_token() -> None:
    crowd = RandomTrader(a_market(user={"BONK": 10**14, "RAY": 10**12}))
    crowd.trade(2_000)
    crowd.check_books()
    assert crowd.outcomes.keys() == EVERY_OUTCOME | PROGRAMS.keys()
    assert all(count >= 20 for count in crowd.outcomes.values()), crowd.outcomes


def test_the_same_trades_have_the_same_fills() -> None:
    one, other = RandomTrader(a_market(seed=5), seed=3), RandomTrader(a_market(seed=5), seed=3)
    other.market = a_market(seed=5, pools=reversed(list(other.market.pools.values())))
    for crowd in (one, other):
        crowd.trade(200)
    assert one.executions == other.executions
    assert Picture.of(one.market) == Picture.of(other.market)


def test_a_market_goes_on_where_another_stopped() -> None:
    # As after a change of leader: pools and wallets are all that there is to hand over.
    one = RandomTrader(a_market(), seed=9)
    one.trade(50)
    old = one.market
    new = Market(
        1,
        old.pools.values(),
        old.wallets,
        clock=old._clock,
        slot_ms=SLOT_MS,
        variance_ppm=VARIANCE,
        failure_rates=FailureRates(),
    )
    for slot in range(one.slot, one.slot + 40):
        executions = []
        for market in (old, new):
            market.move(slot)
            executions.append(market.execute(a_transaction((10**11, SELL[CPMM])), slot))
        assert executions[0] == executions[1]
    assert Picture.of(old) == Picture.of(new)


def test_volumes_include_all_traders_and_are_reported_once() -> None:
    market = a_market()
    paid = market.execute(a_transaction((10**6, SELL[CPMM])), SLOT)
    cost = market.execute(a_transaction((10**6, BUY[CPMM])), SLOT)
    assert paid.amount_out is not None
    assert cost.amount_out is not None
    volumes = {CPMM: (10**6 + cost.amount_out, paid.amount_out + 10**6)}
    changes = market.take_changes()
    assert changes.volumes == volumes
    assert changes.pools == [market.pools[CPMM]]
    assert changes.wallets == {key: market.wallets[key] for key in ((USER, "SOL"), (USER, "BONK"))}
    assert market.take_changes() == Changes([], {}, {})


BINS = {-1: Bin(0, 100, 20, 3), 0: Bin(7, 8), 1: Bin(500, 0, 60, 4, orders_ask=True)}
OWED: list[tuple[PoolState, tuple[int, int]]] = [
    (CpmmPool(100, 200, 2_500, protocol_fees_0=3, fund_fees_1=4), (100, 200)),
    (AmmV4Pool(100, 200, need_take_pnl_coin=5), (100, 200)),
    (DammV2Pool(1, 1, 1, 1, 100, 200, BaseFee(1), protocol_fee_a=3, protocol_fee_b=4), (103, 204)),
    (
        replace(DlmmPool.of_bins(DlmmParameters(1, 1), 0, BINS.items()), protocol_fee_x=9, protocol_fee_y=5),
        (7 + 500 + 60 + 4 + 9, 100 + 20 + 3 + 8 + 5),
    ),
]


@pytest.mark.parametrize(("state", "holds"), OWED)
def test_what_a_state_owes(state: PoolState, holds: tuple[int, int]) -> None:
    assert owed(state) == holds


def test_a_short_vault_is_reported() -> None:
    pools = [
        replace(pool, vault_b=pool.vault_b - 1) if pool.id in POOLS.values() else pool
        for pool in a_market().pools.values()
    ]
    told = a_market(pools=pools).shortfalls()
    assert sorted(text.split(" ")[0] for text in told) == sorted(POOLS.values())


def test_pools_of_a_pair_are_the_same_both_ways_and_in_order() -> None:
    market = a_market(pools=reversed(list(a_market().pools.values())))
    pools = market.pools_of("SOL", "BONK")
    assert [pool.id for pool in pools] == sorted(POOLS.values())
    assert market.pools_of("BONK", "SOL") == pools
    assert market.pools_of("JUP", "BONK") == ()
    assert market.tokens == ("BONK", "JUP", "RAY", "SOL", "USDC", "USDT")
    assert list(market.pools) == sorted(market.pools)


def test_a_listing_mints_what_its_vaults_hold() -> None:
    market = a_market()
    market.move(SLOT)
    before = market.totals()
    pool = PaperPool(
        "a", Dex.RAYDIUM, "raydium_cpmm", "JUP", "BONK", CpmmPool(10**9, 10**15, 2_500), 10**9, 10**15, SLOT
    )
    assert market.add_pool(pool) == {"JUP": 10**9, "BONK": 10**15}
    assert market.totals() == {
        **before,
        "JUP": before["JUP"] + 10**9,
        "BONK": before["BONK"] + 10**15,
    }
    assert market.pools_of("BONK", "JUP") == (pool,)
    assert market.take_changes() == Changes([], {}, {}, opened=[pool])
    # Its price was anything; the traders move it to its target, and touch no other pool.
    market.move(SLOT)
    assert [each.id for each in market.take_changes().pools] == ["a"]
    assert abs(distance_ppm(market, market.pools["a"], SLOT)) <= BAND_PPM
    with pytest.raises(ValueError, match="pool a already exists"):
        market.add_pool(pool)
    with pytest.raises(ValueError, match="b requires"):
        market.add_pool(replace(pool, id="b", vault_a=10**9 - 1))


def test_a_pool_that_is_delisted_takes_with_it_what_its_vaults_hold() -> None:
    market = a_market(user={"JUP": 10**9})
    pool = PaperPool(
        "a", Dex.RAYDIUM, "raydium_cpmm", "JUP", "BONK", CpmmPool(10**9, 10**15, 2_500), 10**9, 10**15, SLOT
    )
    market.add_pool(pool)
    market.move(SLOT)
    market.take_changes()
    assert market.execute(a_transaction((10**6, [("a", "JUP", "BONK")])), SLOT).failure is None
    last, before = market.pools["a"], market.totals()
    market.remove_pool("a")
    assert "a" not in market.pools
    changes = market.take_changes()
    assert (changes.pools, changes.opened, changes.closed) == ([], [], [last])
    assert market.totals() == {
        **before,
        "JUP": before["JUP"] - last.vault_a,
        "BONK": before["BONK"] - last.vault_b,
    }
    transaction = a_transaction((10**6, [("a", "JUP", "BONK")]))
    assert fails(market, transaction) is FailureCode.POOL_DISABLED
    # The prices move on without it.
    market.move(SLOT + DAY_SLOTS)
    with pytest.raises(KeyError):
        market.remove_pool("a")


def test_a_pool_that_comes_and_goes_between_two_commits_was_never_there() -> None:
    market = a_market()
    pool = PaperPool(
        "a", Dex.RAYDIUM, "raydium_cpmm", "JUP", "BONK", CpmmPool(10**9, 10**15, 2_500), 10**9, 10**15, SLOT
    )
    market.add_pool(pool)
    market.remove_pool("a")
    assert market.take_changes() == Changes([], {}, {})
    market.move(SLOT)
    assert "a" not in market.pools


def test_a_pool_of_a_token_without_a_reference_price_has_no_arbitrage() -> None:
    market = a_market(user={"WIF": 10**9})
    pool = PaperPool(
        "a", Dex.RAYDIUM, "raydium_cpmm", "WIF", "SOL", CpmmPool(10**9, 10**9, 2_500), 10**9, 10**9, SLOT
    )
    market.add_pool(pool)
    market.move(SLOT)
    assert market.pools["a"] == pool
    assert market.execute(a_transaction((10**8, [("a", "WIF", "SOL")])), SLOT).failure is None
    assert market.take_changes().volumes["a"][0] == 10**8


@MODEST
@given(st.integers(0, 10**12), st.integers(10, 60_000))
def test_time_is_counted_in_slots(slot: int, slot_ms: int) -> None:
    market = Market(
        1,
        [],
        {},
        clock=a_market()._clock,
        slot_ms=slot_ms,
        variance_ppm=VARIANCE,
        failure_rates=FailureRates(),
    )
    assert market.now(slot) == ChainTime(slot * slot_ms // 1_000, slot)
