"""Venue cards: requirements of every venue. See tests/support/stands.py for how to add a venue."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from service.chains.venue import (
    Balance,
    PoolRef,
    PoolView,
    Snapshot,
    Swap,
    VenueRefusedError,
    VenueUnavailableError,
)
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.failures import FailureCode
from service.domain.quote import MULTIPLE, Choice, Dex, Leg, NoQuote, Path, PoolQuote, Route, SwapMode
from service.domain.tokens import TOKENS
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.routing import NoRouteError, RouteLimits
from service.routing.quoting import Quoter
from tests.support.servers import TestCluster, TestServers
from tests.support.stands import STANDS, Stand, StandKind

# One venue serves all cards that do not change it permanently.
pytestmark = pytest.mark.asyncio(loop_scope="module")

_PATIENCE_S = 20
_SHORT_S = 0.05

EXACT_IN, EXACT_OUT = SwapMode

both_modes = pytest.mark.parametrize("mode", SwapMode)


@dataclass(frozen=True)
class TradingDesk:
    """A trader on a venue."""

    stand: Stand
    clock: Clock

    async def quote(
        self, amount: int | None = None, mode: SwapMode = EXACT_IN, pair: tuple[str, str] | None = None
    ) -> Choice:
        """Return the best route for an amount sold or bought; by default for the good swap."""
        token_in, token_out = pair or (self.stand.token_in, self.stand.token_out)
        quoter = Quoter(self.stand.venue, timeout_ms=5_000, limits=RouteLimits(), clock=Clock())
        if amount is None:
            amount = self.stand.amount
            if mode is EXACT_OUT:
                return await self.quote((await self.quote()).route.amount_out, mode)
        return await quoter.best(mode, token_in, token_out, amount)

    async def sign(
        self, route: Route, limits: tuple[int, int] | None = None, number: int = 1
    ) -> SignedTransaction:
        """Sign a swap for a new order; by default its limits are the quoted amounts."""
        maximum_in, minimum_out = limits or route.limits(0)
        order_id = self.clock.new_order_id()
        return await self.stand.venue.prepare(Swap(order_id, number, route, maximum_in, minimum_out))

    async def good(self) -> SignedTransaction:
        """Sign the good swap."""
        return await self.sign((await self.quote()).route)

    async def execute(self, attempt: SignedTransaction) -> TransactionStatus:
        """Submit an attempt and wait for its outcome."""
        status = await self.stand.venue.submit(attempt)
        assert status.state in {TransactionState.PENDING, TransactionState.UNKNOWN} or status.final
        return await self.stand.venue.outcome(attempt, _PATIENCE_S)

    async def ends(self, code: FailureCode, route: Route, limits: tuple[int, int] | None = None) -> bool:
        """Return whether a swap fails for good with this code: when it is signed, or when it is executed."""
        try:
            attempt = await self.sign(route, limits)
        except VenueRefusedError as refusal:
            return refusal.failure.code is code
        return failed(await self.execute(attempt), code)

    async def send_and_lose(self, attempt: SignedTransaction) -> None:
        """Submit an attempt whose response is lost: it arrives, and the venue does not say so."""
        async with self.stand.losing_answers():
            try:
                status = await self.stand.venue.submit(attempt)
            except VenueUnavailableError:
                return
            assert status.state is TransactionState.UNKNOWN

    def pools(self) -> dict[str, PoolView]:
        """Return the view of every pool by id."""
        return {view.pool.id: view for view in self.stand.venue.all_views()[1]}

    def amounts(self) -> dict[str, tuple[int, int]]:
        """Return the reserves of every pool."""
        return {pool_id: (view.amount_a, view.amount_b) for pool_id, view in self.pools().items()}

    def whole(self, ref: PoolRef, mode: SwapMode, amount: int, pair: tuple[str, str] | None = None) -> Route:
        """Return a route through one pool, without a quote and with the lowest minimum output."""
        token_in, token_out = pair or (self.stand.token_in, self.stand.token_out)
        amount_in, amount_out = (amount, 1) if mode is EXACT_IN else (U64_MAX, amount)
        leg = Leg(ref.dex, ref.id, token_in, token_out, amount_in, amount_out, 0, 0, 0)
        return Route(mode, token_in, token_out, (Path((leg,)),), 0)

    def direct(self) -> Sequence[PoolRef]:
        """Return the pools of the good swap's pair."""
        return self.stand.venue.pools(self.stand.token_in, self.stand.token_out)


@pytest.fixture(scope="module", params=STANDS)
def kind(request: pytest.FixtureRequest) -> StandKind:
    name: str = request.param
    return STANDS[name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(kind: StandKind, cluster: TestCluster) -> AsyncIterator[TradingDesk]:
    async with kind(cluster.new()) as stand:
        yield TradingDesk(stand, Clock())


@pytest_asyncio.fixture(loop_scope="module")
async def own(kind: StandKind, servers: TestServers) -> AsyncIterator[TradingDesk]:
    """Return a desk whose venue the test may change."""
    async with kind(servers) as stand:
        yield TradingDesk(stand, Clock())


def failed(status: TransactionStatus, code: FailureCode) -> bool:
    """Return whether an attempt has failed for good with this code, and traded nothing."""
    assert status.failure is not None, status
    assert status.failure.code is code, status
    return status.state is TransactionState.FAILED and status.fill is None


# --- quote


async def test_a_pair_has_pools_on_both_dexs_whichever_is_sold(desk: TradingDesk) -> None:
    stand = desk.stand
    refs = desk.direct()
    assert {ref.dex for ref in refs} == set(Dex)
    assert all({ref.token_a, ref.token_b} == {stand.token_in, stand.token_out} for ref in refs)
    assert list(stand.venue.pools(stand.token_out, stand.token_in)) == list(refs)
    assert list(stand.venue.pools(stand.far_in, stand.far_out)) == []
    assert list(stand.venue.pools(stand.token_in, stand.token_in)) == []


async def test_a_snapshot_has_the_state_of_each_pool_in_order(desk: TradingDesk) -> None:
    for dex in Dex:
        refs = [ref for ref in desk.direct() if ref.dex is dex]
        answer = desk.stand.venue.snapshot(refs)
        snapshots: Sequence[Snapshot] = answer if isinstance(answer, Sequence) else await answer
        assert [snapshot.pool for snapshot in snapshots] == refs


async def test_the_survey_shows_every_pool_that_can_be_traded(desk: TradingDesk) -> None:
    shown = desk.pools()
    slot, _views = desk.stand.venue.all_views()
    assert slot > 0
    for ref in desk.direct():
        view = shown[ref.id]
        assert view.pool == ref
        assert view.program
        assert min(view.amount_a, view.amount_b) > 0
        assert view.price is not None
        assert min(view.price) > 0


@both_modes
async def test_every_pool_of_a_pair_quotes(desk: TradingDesk, mode: SwapMode) -> None:
    choice = await desk.quote(mode=mode)
    quotes = [quote for quote in choice.quotes if isinstance(quote, PoolQuote)]
    assert {quote.pool_id for quote in quotes} == {ref.id for ref in desk.direct()}
    route = choice.route
    assert route.mode is mode
    if mode is EXACT_IN:
        assert route.amount_in == desk.stand.amount
        assert route.amount_out >= max(quote.amount_out for quote in quotes)
    else:
        assert route.amount_in <= min(quote.amount_in for quote in quotes)
    assert choice.runner_up is not None


@both_modes
async def test_too_small_an_amount_is_not_quoted(desk: TradingDesk, mode: SwapMode) -> None:
    stand = desk.stand
    pair = (stand.dust_in, stand.dust_out) if mode is EXACT_IN else (stand.dust_out, stand.dust_in)
    if mode is EXACT_OUT:
        # One unit of the cheap token costs a unit of the expensive one: a bad price, but a swap.
        assert (await desk.quote(1, mode, pair)).route.amount_in == 1
        return
    with pytest.raises(NoRouteError) as end:
        await desk.quote(1, mode, pair)
    assert end.value.failure.code is FailureCode.AMOUNT_TOO_SMALL
    assert all(isinstance(quote, NoQuote) for quote in end.value.quotes)


async def test_more_than_all_pools_hold_is_not_quoted(desk: TradingDesk) -> None:
    with pytest.raises(NoRouteError) as end:
        await desk.quote(U64_MAX, EXACT_OUT)
    assert end.value.failure.code is FailureCode.INSUFFICIENT_LIQUIDITY
    assert {quote.pool_id for quote in end.value.quotes} == {ref.id for ref in desk.direct()}


# --- prepare


@both_modes
async def test_preparing_signs_without_sending(desk: TradingDesk, mode: SwapMode) -> None:
    before = desk.pools()
    route = (await desk.quote(mode=mode)).route
    limits = route.limits(100)
    attempt = await desk.sign(route, limits)
    assert (attempt.maximum_in, attempt.minimum_out) == limits
    assert attempt.dex == route.dex
    assert attempt.raw
    assert attempt.last_valid_height >= desk.stand.height
    assert (await desk.stand.venue.status(attempt)).state is TransactionState.UNKNOWN
    assert desk.pools() == before


async def test_every_attempt_of_every_order_has_a_unique_id(desk: TradingDesk) -> None:
    route = (await desk.quote()).route
    order_id = desk.clock.new_order_id()
    swaps = [Swap(order_id, number, route, *route.limits(0)) for number in (1, 2)]
    swaps.append(replace(swaps[0], order_id=desk.clock.new_order_id()))
    attempts = [await desk.stand.venue.prepare(swap) for swap in swaps]
    assert len({attempt.id for attempt in attempts}) == 3


# --- submit


@both_modes
async def test_a_pool_without_other_trades_pays_its_quote(desk: TradingDesk, mode: SwapMode) -> None:
    route = (await desk.quote(mode=mode)).route
    attempt = await desk.sign(route)
    status = await desk.execute(attempt)
    assert status.state is TransactionState.LANDED
    assert status.fill is not None
    assert (status.fill.amount_in, status.fill.amount_out) == (route.amount_in, route.amount_out)
    assert status.fill.tx_hash == attempt.id
    assert await desk.stand.venue.status(attempt) == status


async def test_exact_out_pays_exactly_the_amount_and_costs_no_more_than_the_maximum(
    desk: TradingDesk,
) -> None:
    wanted = (await desk.quote()).route.amount_out
    for _ in range(3):
        route = (await desk.quote(wanted, EXACT_OUT)).route
        attempt = await desk.sign(route, route.limits(50))
        status = await desk.execute(attempt)
        assert status.fill is not None
        assert status.fill.amount_out == wanted
        assert 0 < status.fill.amount_in <= attempt.maximum_in


async def test_submitting_again_changes_nothing(desk: TradingDesk) -> None:
    venue, attempt = desk.stand.venue, await desk.good()
    await asyncio.gather(*(venue.submit(attempt) for _ in range(5)))
    first = await venue.outcome(attempt, _PATIENCE_S)
    assert first.state is TransactionState.LANDED
    landed = desk.pools()
    assert await venue.submit(attempt) == first
    assert await venue.outcome(attempt, _SHORT_S) == first
    # Everything sent before this one has been executed.
    assert (await desk.execute(await desk.good())).fill is not None
    assert await venue.status(attempt) == first
    assert desk.pools().keys() == landed.keys()


async def test_a_failed_attempt_that_is_submitted_again_stays_failed(own: TradingDesk) -> None:
    route = (await own.quote()).route
    attempt = await own.sign(route)
    await own.stand.switch_off(route.legs[0].pool_id)
    first = await own.execute(attempt)
    assert failed(first, FailureCode.POOL_DISABLED)
    assert await own.stand.venue.submit(attempt) == first


async def test_concurrent_attempts_land_once_each(desk: TradingDesk) -> None:
    route = (await desk.quote()).route
    attempts = [await desk.sign(route, (route.amount_in, 1)) for _ in range(20)]
    statuses = await asyncio.gather(*map(desk.execute, attempts))
    assert [status.fill and status.fill.tx_hash for status in statuses] == [a.id for a in attempts]


# --- a lost response, and the status by id


async def test_after_a_lost_response_the_status_shows_the_outcome(desk: TradingDesk) -> None:
    attempt = await desk.good()
    await desk.send_and_lose(attempt)
    assert (await desk.stand.venue.status(attempt)).state in {
        TransactionState.PENDING,
        TransactionState.LANDED,
    }
    status = await desk.stand.venue.outcome(attempt, _PATIENCE_S)
    assert status.fill is not None
    assert status.fill.tx_hash == attempt.id


async def test_after_a_lost_response_sending_again_lands_once(desk: TradingDesk) -> None:
    attempt = await desk.good()
    await desk.send_and_lose(attempt)
    status = await desk.execute(attempt)
    assert status.state is TransactionState.LANDED
    landed = desk.pools()
    assert await desk.stand.venue.submit(attempt) == status
    assert desk.pools() == landed


async def test_an_attempt_that_was_never_sent_is_unknown_and_may_be_sent(desk: TradingDesk) -> None:
    venue, attempt = desk.stand.venue, await desk.good()
    for _ in range(2):
        assert await venue.status(attempt) == TransactionStatus(TransactionState.UNKNOWN)
    assert (await venue.outcome(attempt, _SHORT_S)).state is TransactionState.UNKNOWN
    assert (await desk.execute(attempt)).state is TransactionState.LANDED


# --- expiry


async def test_expired_is_final_and_a_late_submit_does_not_land(
    kind: StandKind, servers: TestServers
) -> None:
    async with kind(servers, short_lived=True) as stand:
        desk = TradingDesk(stand, Clock())
        attempt = await desk.good()
        async with asyncio.timeout(_PATIENCE_S):
            await stand.outlive(attempt)
        expired = await stand.venue.status(attempt)
        assert expired == TransactionStatus(TransactionState.EXPIRED)
        assert expired.final
        # The submission still in flight is too late.
        assert await stand.venue.submit(attempt) == expired
        assert await stand.venue.outcome(attempt, _SHORT_S) == expired
        assert await stand.venue.status(attempt) == expired


async def test_an_attempt_submitted_too_late_expires(kind: StandKind, servers: TestServers) -> None:
    async with kind(servers, short_lived=True) as stand:
        desk = TradingDesk(stand, Clock())
        attempt = await desk.good()
        async with asyncio.timeout(_PATIENCE_S):
            await stand.outlive(attempt)
        assert (await desk.execute(attempt)).state is TransactionState.EXPIRED


# --- slippage


@both_modes
async def test_a_swap_below_its_limit_fails(desk: TradingDesk, mode: SwapMode) -> None:
    before = desk.pools()
    route = (await desk.quote(mode=mode)).route
    worse = 1 if mode is EXACT_IN else 0
    limits = (route.amount_in - 1 + worse, route.amount_out + worse)
    assert await desk.ends(FailureCode.SLIPPAGE_EXCEEDED, route, limits)
    assert desk.pools() == before


# --- too small, too large, more than the wallet holds


async def test_too_small_an_amount_fails_with_its_reason(desk: TradingDesk) -> None:
    stand = desk.stand
    before = desk.pools()
    pair = stand.dust_in, stand.dust_out
    for ref in stand.venue.pools(*pair):
        code = stand.dust_failures.get(before[ref.id].program, FailureCode.AMOUNT_TOO_SMALL)
        assert await desk.ends(code, desk.whole(ref, EXACT_IN, 1, pair), (1, 1)), ref
    assert desk.pools() == before


@both_modes
async def test_too_large_an_amount_fails_with_its_reason(desk: TradingDesk, mode: SwapMode) -> None:
    before = desk.pools()
    for ref in desk.direct():
        assert await desk.ends(desk.stand.too_large, desk.whole(ref, mode, U64_MAX), (U64_MAX, 1)), ref
    assert desk.pools() == before


@both_modes
async def test_more_than_the_wallet_holds_is_not_sold(
    kind: StandKind, servers: TestServers, mode: SwapMode
) -> None:
    async with kind(servers, balance=1_000) as stand:
        desk = TradingDesk(stand, Clock())
        before = desk.pools()
        route = (await desk.quote(mode=mode)).route
        assert await desk.ends(FailureCode.INSUFFICIENT_BALANCE, route)
        assert desk.pools() == before


async def test_the_balance_follows_what_lands(kind: StandKind, servers: TestServers) -> None:
    async with kind(servers, balance=10**9) as stand:
        desk, venue = TradingDesk(stand, Clock()), stand.venue
        bought = (await venue.balance(stand.token_out)).total
        assert (await venue.balance(stand.token_in)).total == 10**9
        status = await desk.execute(await desk.sign((await desk.quote(4 * 10**8)).route))
        assert status.fill is not None
        sold = await venue.balance(stand.token_in)
        assert (sold.total, sold.in_flight) == (6 * 10**8, 0)
        assert (await venue.balance(stand.token_out)).total == bought + status.fill.amount_out
        assert await venue.balance("NOBODY") == Balance()


async def test_the_balances_are_listed_by_token(kind: StandKind, servers: TestServers) -> None:
    async with kind(servers, balance=10**9) as stand:
        venue = stand.venue
        held = list(await venue.balances(1_000))
        tokens = [token.symbol for token, _balance in held]
        assert tokens == sorted(set(tokens))
        assert {stand.token_in, stand.token_out} <= set(tokens)
        assert held == [(TOKENS[token], await venue.balance(token)) for token in tokens]
        # In pages of any size.
        for limit in (1, 2, len(held)):
            page, listed = list(await venue.balances(limit)), []
            while page:
                listed += page
                page = list(await venue.balances(limit, page[-1][0].symbol))
            assert listed == held
        assert list(await venue.balances(1_000, "zzz")) == []


async def test_only_what_the_wallet_has_plenty_of_is_unlimited(kind: StandKind, servers: TestServers) -> None:
    async with kind(servers, balance=10**9) as stand:
        assert not stand.venue.is_unlimited(stand.token_in)
        assert not stand.venue.is_unlimited("NOBODY")


async def test_the_wallet_is_sold_to_its_last_unit(kind: StandKind, servers: TestServers) -> None:
    async with kind(servers, balance=2 * 10**9) as stand:
        desk = TradingDesk(stand, Clock())
        for left in (1, 0):
            route = (await desk.quote(10**9)).route
            assert (await desk.execute(await desk.sign(route))).fill is not None, left
        route = (await desk.quote(10_000)).route
        assert await desk.ends(FailureCode.INSUFFICIENT_BALANCE, route, (10_000, 1))


# --- a disabled pool


async def test_a_disabled_pool_reports_its_reason_and_the_others_trade(own: TradingDesk) -> None:
    [leg] = (await own.quote()).route.legs
    await own.stand.switch_off(leg.pool_id)
    choice = await own.quote()
    reasons = {quote.pool_id: quote.reason for quote in choice.quotes if isinstance(quote, NoQuote)}
    assert reasons == {leg.pool_id: FailureCode.POOL_DISABLED}
    assert leg.pool_id not in {each.pool_id for each in choice.route.legs}
    assert (await own.execute(await own.sign(choice.route))).state is TransactionState.LANDED


async def test_an_attempt_through_a_disabled_pool_fails_with_its_reason(own: TradingDesk) -> None:
    route = (await own.quote()).route
    attempt = await own.sign(route, (route.amount_in, 1))
    [leg] = route.legs
    await own.stand.switch_off(leg.pool_id)
    before = own.pools()
    assert failed(await own.execute(attempt), FailureCode.POOL_DISABLED)
    assert own.pools() == before


# --- routes of more than one swap


@both_modes
async def test_a_split_over_both_dexs_lands_completely(desk: TradingDesk, mode: SwapMode) -> None:
    route = (await desk.quote(desk.stand.large_amount)).route
    if mode is EXACT_OUT:
        route = (await desk.quote(route.amount_out, mode)).route
    assert route.dex == MULTIPLE
    assert {leg.dex for leg in route.legs} == set(Dex)
    before = desk.amounts()
    attempt = await desk.sign(route)
    assert attempt.dex == MULTIPLE
    status = await desk.execute(attempt)
    assert status.fill is not None
    assert (status.fill.amount_in, status.fill.amount_out) == (route.amount_in, route.amount_out)
    after = desk.amounts()
    assert {leg.pool_id for leg in route.legs} <= {pool for pool in after if after[pool] != before[pool]}


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
async def test_a_split_fails_as_a_whole_if_one_leg_fails(own: TradingDesk, which: int) -> None:
    route = (await own.quote(own.stand.large_amount)).route
    attempt = await own.sign(route, (route.amount_in, 1))
    await own.stand.switch_off(route.legs[which].pool_id)
    before = own.pools()
    assert failed(await own.execute(attempt), FailureCode.POOL_DISABLED)
    assert own.pools() == before


async def test_a_split_is_compared_with_the_limit_as_a_whole(desk: TradingDesk) -> None:
    route = (await desk.quote(desk.stand.large_amount)).route
    before = desk.pools()
    limits = route.amount_in, route.amount_out + 1
    assert await desk.ends(FailureCode.SLIPPAGE_EXCEEDED, route, limits)
    assert desk.pools() == before


@both_modes
async def test_two_hops_land_for_a_pair_without_a_direct_pool(desk: TradingDesk, mode: SwapMode) -> None:
    stand = desk.stand
    pair = stand.far_in, stand.far_out
    choice = await desk.quote(stand.far_amount, pair=pair)
    if mode is EXACT_OUT:
        choice = await desk.quote(choice.route.amount_out, mode, pair)
    assert choice.quotes == ()
    route = choice.route
    assert all(len(path.legs) == 2 for path in route.paths)
    before = desk.amounts()
    attempt = await desk.sign(route)
    status = await desk.execute(attempt)
    assert status.fill is not None
    assert (status.fill.amount_in, status.fill.amount_out) == (route.amount_in, route.amount_out)
    left = Counter[str]()
    for first, second in (path.legs for path in route.paths):
        left[first.token_out] += first.amount_out - second.amount_in
    assert {each.token: each.amount for each in status.residue} == left
    assert await stand.venue.status(attempt) == status
    after = desk.amounts()
    assert {leg.pool_id for leg in route.legs} <= {pool for pool in after if after[pool] != before[pool]}


async def test_two_hops_fail_as_a_whole_if_the_second_fails(own: TradingDesk) -> None:
    stand = own.stand
    route = (await own.quote(stand.far_amount, pair=(stand.far_in, stand.far_out))).route
    attempt = await own.sign(route, (route.amount_in, 1))
    await stand.switch_off(route.paths[0].legs[1].pool_id)
    before = own.pools()
    assert failed(await own.execute(attempt), FailureCode.POOL_DISABLED)
    assert own.pools() == before
