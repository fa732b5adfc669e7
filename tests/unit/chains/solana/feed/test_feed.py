"""The feed of the sandbox's pools, by its endpoints, their faults, and slots that only the test makes."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from typing import Any, Self

import pytest
from solders.pubkey import Pubkey

from service.amm import ChainTime, Direction, DlmmPool
from service.amm.errors import BinArrayMissingError
from service.chains.paper.pool_json import (
    METEORA_DAMM_V2,
    METEORA_DLMM,
    PROGRAMS,
    RAYDIUM_AMM_V4,
    RAYDIUM_CPMM,
    pool_id,
)
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.feed.feed import FeedSettings
from service.chains.solana.feed.reader import Wanted
from service.chains.solana.programs import meteora_dlmm
from service.chains.solana.rpc.subscriptions import Notifications
from service.chains.solana.rpc.urls import websocket_url
from service.chains.solana.tokens import token_amount
from service.chains.venue import MarketChange, Snapshot, Traded, VenueUnavailableError
from service.clock import Clock
from service.domain.quote import Dex, PoolQuote, SwapMode
from service.domain.tokens import TOKENS
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from service.sandbox.faults import GARBAGE
from service.sandbox.rpc.encoding import CLOSED
from tests.support.local_chain import SOL, LocalChain
from tests.support.paper import until
from tests.support.served_chain import FeedStand, feed_stand

PROGRAM_NAMES = (RAYDIUM_CPMM, RAYDIUM_AMM_V4, METEORA_DLMM, METEORA_DAMM_V2)

SOME = [
    LocalChain().chain.genesis.pools[pool_id(program, "SOL", other)]
    for program in PROGRAM_NAMES
    for other in ("USDC", "USDT")
]
"""Two pools of each program."""


@pytest.fixture
async def one() -> AsyncIterator[FeedStand]:
    """One endpoint, some pools."""
    async with feed_stand("", pools=SOME) as stand:
        yield stand


@pytest.fixture
async def two() -> AsyncIterator[FeedStand]:
    """Two endpoints, some pools."""
    async with feed_stand("", "", pools=SOME) as stand:
        yield stand


def now_of(answer: Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]) -> Sequence[Snapshot]:
    """Return snapshots that must be at hand."""
    assert isinstance(answer, Sequence)
    return answer


# --- market data


async def test_all_pools_of_the_list_are_market_data() -> None:
    async with feed_stand("") as stand:
        feed, chain = stand.feed, stand.chain
        slot, views = feed.all_views()
        shown = {view.pool.id: view for view in views}
        assert slot == chain.tip.slot
        assert shown.keys() == {str(key) for key in chain.genesis.pools.values()}
        assert {token.symbol for token in feed.tokens()} == {"SOL", "USDC", "USDT", "JUP", "RAY", "BONK"}
        for name, key in chain.genesis.pools.items():
            view = shown[str(key)]
            ref = view.pool
            assert (PROGRAMS[view.program], name.split(":")[0]) == (ref.dex, ref.dex)
            assert set(name.split(":")[1].split("-")) == {ref.token_a, ref.token_b}
            assert ref in feed.pools(ref.token_a, ref.token_b)
            assert feed.pools(ref.token_a, ref.token_b) == feed.pools(ref.token_b, ref.token_a)
            assert view.price is not None
            account = stand.local.account(key)
            opened = chain.programs.open(key, account.owner, account.data)
            assert stand.state(ref.id) == stand.local.state(opened)
            vaults = [side.vault for side in (opened.addresses.token_a, opened.addresses.token_b)]
            amounts = [token_amount(stand.local.account(vault).data) for vault in vaults]
            assert amounts == [view.amount_a, view.amount_b]
            found = feed.opened(ref.id)
            assert found is not None
            assert (found.pool, found.state, found.slot) == (opened, stand.state(ref.id), stand.slot(ref.id))
            for side, symbol in zip(
                (opened.addresses.token_a, opened.addresses.token_b), (ref.token_a, ref.token_b), strict=True
            ):
                assert feed.mints[symbol] == (TOKENS[symbol], side.mint, side.program)
        [added] = [{ref.id for change in stand.changes for ref in change.added_or_removed}]
        assert added == shown.keys()
        assert list(feed.pools("SOL", "SOL")) == []


async def test_a_snapshot_is_for_the_time_at_which_a_transaction_would_land(one: FeedStand) -> None:
    one.chain.advance(7)
    await one.feed.refresh()
    refs = [ref for ref in one.feed.pools("SOL", "USDC") if ref.dex is Dex.RAYDIUM]
    snapshots = now_of(one.feed.snapshot(refs))
    assert [each.pool for each in snapshots] == refs
    tip = one.chain.tip
    assert {each.now for each in snapshots} == {ChainTime(tip.time_s + 1, tip.slot + 5)}


async def test_the_length_of_a_slot_is_measured(one: FeedStand) -> None:
    assert one.feed.slot_ms == 400
    for _ in range(12):
        one.chain.advance(5)
        await one.feed.refresh()
    assert one.feed.slot_ms == one.chain.timing.slot_ms == 200


async def test_a_swap_is_a_change_with_its_volume(one: FeedStand) -> None:
    assert not await one.feed.refresh()
    del one.changes[:]
    changed = one.swap()
    assert await one.feed.refresh()
    [change] = one.changes
    assert (change.pool_ids, change.complete) == (frozenset({changed}), True)
    assert change.added_or_removed == ()
    [traded] = change.traded
    view = next(view for view in one.feed.all_views()[1] if view.pool.id == changed)
    sol = traded.volume_a if view.pool.token_a == "SOL" else traded.volume_b
    assert (traded.pool_id, traded.second, sol) == (changed, one.chain.tip.time_s, SOL)
    assert await one.feed.traded_since(60) == [traded]
    # The same state again is no change, and stays the same object, by which quotes are cached.
    state = one.state(changed)
    one.chain.advance()
    assert not await one.feed.refresh()
    assert one.state(changed) is state
    assert one.slot(changed) == one.chain.tip.slot


async def test_volumes_of_more_than_an_hour_ago_are_forgotten(one: FeedStand) -> None:
    one.swap()
    await one.feed.refresh()
    one.chain.skip(3_600 * 5)
    one.swap()
    await one.feed.refresh()
    [traded] = await one.feed.traded_since(3_600)
    assert traded.second == one.chain.tip.time_s
    assert isinstance(traded, Traded)


async def test_orders_are_quoted_from_it(one: FeedStand) -> None:
    quoter = Quoter(one.feed, timeout_ms=5_000, limits=RouteLimits(), clock=Clock())
    choice = await quoter.best(SwapMode.EXACT_IN, "SOL", "USDC", 50 * SOL)
    refs = one.feed.pools("SOL", "USDC")
    quoted = {quote.pool_id for quote in choice.quotes if isinstance(quote, PoolQuote)}
    assert quoted == {ref.id for ref in refs}
    hops = await quoter.best(SwapMode.EXACT_OUT, "USDT", "USDC", 1_000_000)
    assert all(len(path.legs) == 2 for path in hops.route.paths)


# --- torn reads


async def swap_at_random(stand: FeedStand, chance: random.Random) -> None:
    pool = stand.local.pool(chance.choice(PROGRAM_NAMES), "SOL", chance.choice(("USDC", "USDT")))
    direction = chance.choice(tuple(Direction))
    sells_sol = pool.addresses.sides(direction)[0].mint == WRAPPED_SOL
    amount = chance.randrange(10**7, 10**9) if sells_sol else chance.randrange(10**6, 10**8)
    transaction = stand.local.swap(stand.local.leg_of(pool, direction, amount, 1))
    stand.chain.submit(transaction, bytes(transaction))
    stand.chain.advance()


async def torn_reads(swaps: int) -> tuple[int, int]:
    """Swap while reads are torn; return the accepted states that never were, and the refused reads."""
    chance = random.Random(swaps)
    wrong = 0
    async with feed_stand("", "", pools=SOME) as stand:

        def check(change: MarketChange) -> None:
            nonlocal wrong
            for each in change.pool_ids:
                wrong += stand.state(each) != stand.truth(each, stand.slot(each))

        stand.feed.on_change(check)
        for node in stand.served.nodes:
            # Some slots back, one of which has changed the pool; a third of the reads.
            node.faults.arm("torn", times=None, rate_ppm=333_333, slots=3)
        for _ in range(swaps):
            await swap_at_random(stand, chance)
            try:
                await stand.feed.refresh()
            except VenueUnavailableError:
                # Both were torn.
                await stand.clock.jump(60)
        refused = stand.calls() - swaps
        for node in stand.served.nodes:
            node.faults.clear()
        await stand.clock.jump(60)
        await stand.feed.refresh()
        tip = stand.chain.tip.slot
        wrong += sum(stand.state(str(key)) != stand.truth(str(key), tip) for key in SOME)
    return wrong, refused


async def test_no_state_is_torn_in_500_random_swaps() -> None:
    wrong, refused = await torn_reads(500)
    assert wrong == 0
    assert refused > 50


@pytest.mark.long
async def test_no_state_is_torn_in_10_000_random_swaps() -> None:
    wrong, refused = await torn_reads(10_000)
    print(f"10,000 random swaps: {wrong} torn states, {refused} torn reads refused")  # noqa: T201
    assert wrong == 0
    assert refused > 1_000


# --- old state


async def test_state_that_is_too_old_is_read_again_before_it_is_quoted(one: FeedStand) -> None:
    refs = one.feed.pools("SOL", "USDC")
    one.chain.advance(11)
    one.feed.slots.hint(one.chain.tip.slot - 1)
    assert len(now_of(one.feed.snapshot(refs))) == 4
    one.feed.slots.hint(one.chain.tip.slot)
    answer = one.feed.snapshot(refs)
    assert not isinstance(answer, Sequence)
    assert {one.slot(each.pool.id) for each in await answer} == {one.chain.tip.slot}


async def test_state_that_is_too_old_and_cannot_be_read_is_refused(one: FeedStand) -> None:
    refs = one.feed.pools("SOL", "USDC")
    one.served.arm("down", times=None)
    # Nothing says that slots pass but this machine's clock.
    await one.clock.jump(3.9)
    assert len(now_of(one.feed.snapshot(refs))) == 4
    await one.clock.jump(0.5)
    answer = one.feed.snapshot(refs)
    assert not isinstance(answer, Sequence)
    with pytest.raises(VenueUnavailableError, match=r"127\.0\.0\.1: the connection was lost"):
        await answer
    # What is only shown is still there.
    assert len(one.feed.local_snapshots(refs)) == 4


async def test_state_is_as_old_as_any_endpoint_says_whoever_was_read(two: FeedStand) -> None:
    refs = two.feed.pools("SOL", "USDC")
    two.chain.advance(40)
    two.served.arm("behind", 0, slots=15, times=None)
    await two.served.endpoints.check()
    two.served.arm("down", 1, times=None)
    await two.feed._reader.look()
    assert {two.slot(ref.id) for ref in refs} == {two.chain.tip.slot - 15}
    answer = two.feed.snapshot(refs)
    assert not isinstance(answer, Sequence)
    with pytest.raises(VenueUnavailableError, match="the state of 4 pools is 15 slots old"):
        await answer
    two.served.nodes[1].faults.clear()
    await two.clock.advance(2)
    assert {two.slot(ref.id) for ref in refs} == {two.chain.tip.slot}
    assert len(now_of(two.feed.snapshot(refs))) == 4


async def test_an_older_slot_never_replaces_a_newer_one(one: FeedStand) -> None:
    changed = one.swap()
    one.chain.advance(5)
    await one.feed.refresh()
    state, slot = one.state(changed), one.slot(changed)
    del one.changes[:]
    one.served.arm("behind", slots=6, times=None)
    await one.feed._reader.look()
    assert (one.state(changed), one.slot(changed)) == (state, slot)
    assert one.changes == []


async def test_an_endpoint_that_falls_behind_alone_is_not_quoted_from_for_long(one: FeedStand) -> None:
    refs = one.feed.pools("SOL", "USDC")
    one.served.arm("behind", slots=15, times=None)
    one.chain.advance(11)
    one.feed.slots.hint(one.chain.tip.slot)
    answer = one.feed.snapshot(refs)
    assert not isinstance(answer, Sequence)
    with pytest.raises(VenueUnavailableError, match="the state of 4 pools is 11 slots old"):
        await answer


# --- faults of an endpoint


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("down", {}),
        ("lose_answer", {}),
        ("rate_limit", {"retry_after_s": 30}),
        ("unavailable", {"status": 503}),
        ("unavailable", {"status": 429}),
        ("error", {"code": -32005}),
        ("error", {"code": -32016}),
        ("torn", {"slots": 3}),
        ("behind", {"slots": 21}),
        ("no_history", {}),
        *(("garbage", {"form": form}) for form in GARBAGE),
    ],
    ids=str,
)
async def test_another_endpoint_makes_up_for_one_with_a_fault(
    two: FeedStand, kind: str, arguments: dict[str, Any]
) -> None:
    two.chain.advance(30)
    await two.feed.refresh()
    del two.changes[:]
    two.served.arm(kind, times=None, **arguments)
    for program in PROGRAM_NAMES:
        changed = two.swap(program)
        slept = len(two.clock.sleeps_s)
        assert await two.feed.refresh()
        # No time has passed: the state is of this slot.
        assert len(two.clock.sleeps_s) == slept
        assert two.slot(changed) == two.chain.tip.slot
        assert two.state(changed) == two.truth(changed, two.chain.tip.slot)
    assert [change.complete for change in two.changes] == [True] * 4


async def test_an_endpoint_that_hangs_costs_less_than_two_slots(two: FeedStand) -> None:
    two.served.arm("slow", delay_ms=60_000, times=None)
    changed = two.swap()
    # It would take a minute if the other one were not asked while the first hangs.
    assert await two.feed.refresh()
    assert two.slot(changed) == two.chain.tip.slot


@pytest.mark.parametrize("kind", ["down", "unavailable", "rate_limit", "garbage", "torn"])
async def test_without_any_answer_a_refresh_fails_and_the_next_change_says_that_some_may_be_missing(
    one: FeedStand, kind: str
) -> None:
    one.chain.advance(5)
    del one.changes[:]
    changed = one.swap()
    one.served.arm(kind)
    with pytest.raises(VenueUnavailableError):
        await one.feed.refresh()
    assert one.changes == []
    # A pause that the endpoint asked for is over.
    await one.clock.jump(1)
    await one.feed.refresh()
    assert [(change.pool_ids, change.complete) for change in one.changes] == [(frozenset({changed}), False)]
    other = one.swap(RAYDIUM_AMM_V4)
    await one.feed.refresh()
    assert [(change.pool_ids, change.complete) for change in one.changes[1:]] == [(frozenset({other}), True)]


async def test_a_gap_without_any_change_is_told_too(one: FeedStand) -> None:
    del one.changes[:]
    one.served.arm("down")
    with pytest.raises(VenueUnavailableError):
        await one.feed.refresh()
    assert not await one.feed.refresh()
    assert [(change.pool_ids, change.complete) for change in one.changes] == [(frozenset(), False)]


async def test_after_a_fork_the_state_is_that_of_the_new_chain(one: FeedStand) -> None:
    before = one.state(one.id_of(RAYDIUM_CPMM))
    changed = one.swap()
    await one.feed.refresh()
    assert one.state(changed) != before
    one.chain.fork(1, keep=False)
    # The old fork's slot is the newest: nothing of an older slot is taken.
    await one.feed._reader.look()
    assert one.state(changed) != before
    one.chain.advance()
    assert await one.feed.refresh()
    assert one.state(changed) == before
    assert one.slot(changed) == one.chain.tip.slot


# --- pools that come and go


async def test_a_pool_that_is_closed_is_removed_and_looked_for_every_minute(one: FeedStand) -> None:
    closed = one.id_of(RAYDIUM_CPMM)
    [ref] = [ref for ref in one.feed.pools("SOL", "USDC") if ref.id == closed]
    key = Pubkey.from_string(closed)
    account = one.local.account(key)
    del one.changes[:]
    one.chain.advance()
    one.chain.accounts.write(one.chain.tip.slot, key, CLOSED)
    assert await one.feed.refresh()
    assert [(change.pool_ids, change.added_or_removed) for change in one.changes] == [
        (frozenset({closed}), (ref,))
    ]
    assert len(one.feed.pools("SOL", "USDC")) == 3
    assert len(now_of(one.feed.snapshot([ref]))) == 0
    assert list(one.feed.views([ref])) == []
    one.chain.advance()
    one.chain.accounts.write(one.chain.tip.slot, key, account)
    assert not await one.feed.refresh()
    await one.clock.jump(60)
    for _ in range(2):
        await one.feed.refresh()
    assert [change.added_or_removed for change in one.changes[1:]] == [(ref,)]
    assert len(now_of(one.feed.snapshot(one.feed.pools("SOL", "USDC")))) == 4


async def test_after_the_stop_nothing_waits_for_a_read(one: FeedStand) -> None:
    await one.feed.stop()
    with pytest.raises(VenueUnavailableError):
        await one.feed.refresh()


# --- when it reads


async def test_a_poll_finds_what_nothing_told(one: FeedStand) -> None:
    changed = one.swap()
    await one.clock.advance(0.5)
    await one.read()
    assert one.slot(changed) < one.chain.tip.slot
    await one.clock.advance(0.2)
    await one.read()
    assert one.slot(changed) == one.chain.tip.slot


class Socket:
    """A WebSocket for a feed."""

    def __init__(self, stand: FeedStand, silence_s: float = 60) -> None:
        [url, *_] = stand.served.urls
        self.stand = stand
        self.subscriptions = Notifications(
            stand.served.endpoints.wire,
            websocket_url(url.url),
            url.name,
            stand.clock,
            stand.feed.listener,
            silence_s=silence_s,
        )

    async def __aenter__(self) -> Self:
        self.stand.feed.use(self.subscriptions)
        self.subscriptions.start()
        await self.connected()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.subscriptions.stop()

    async def connected(self) -> None:
        await until(
            lambda: (
                (connection := self.subscriptions._connection)
                and len(connection.granted) == 1 + len(self.stand.feed._pools)
            )
        )


@pytest.fixture
async def unpolled() -> AsyncIterator[FeedStand]:
    """One endpoint, some pools that are read only when something says so."""
    async with feed_stand("", pools=SOME, settings=FeedSettings(poll_ms=10**6)) as stand:
        yield stand


async def test_a_notification_has_only_the_changed_pool_read(unpolled: FeedStand) -> None:
    stand, calls = unpolled, unpolled.calls()
    async with Socket(stand):
        for program in PROGRAM_NAMES:
            changed = stand.swap(program)
            await until(lambda: stand.slot(changed) == stand.chain.tip.slot)  # noqa: B023 - called at once
            assert stand.state(changed) == stand.truth(changed, stand.chain.tip.slot)
            await stand.clock.advance(0.4)
        others = {str(key) for key in SOME} - {stand.id_of(program) for program in PROGRAM_NAMES}
        assert {stand.slot(each) for each in others} == {stand.chain.first.slot}
        assert stand.calls() - calls == 4


@pytest.mark.parametrize("kind", ["ws_drop", "ws_silent", "ws_repeat", "ws_reverse"])
async def test_faults_of_the_websocket_cost_no_change(unpolled: FeedStand, kind: str) -> None:
    stand, silent = unpolled, kind == "ws_silent"
    async with Socket(stand, silence_s=0.1 if silent else 60):
        stand.served.arm(kind, times=None if silent else 1)
        changed = stand.swap()
        # A lost socket, and one that says nothing, has everything read at once.
        await until(lambda: stand.slot(changed) == stand.chain.tip.slot)
        assert stand.state(changed) == stand.truth(changed, stand.chain.tip.slot)


async def test_a_notification_from_an_absurd_slot_stops_nothing(one: FeedStand) -> None:
    [vault, *_] = one.feed._by_vault
    one.feed.listener.on_slot(10**12)
    one.feed.listener.on_account(vault, 10**12)
    one.feed.listener.on_account("nobody", 5)
    await one.read()
    changed = one.swap()
    assert await one.feed.refresh()
    assert one.slot(changed) == one.chain.tip.slot
    assert len(now_of(one.feed.snapshot(one.feed.pools("SOL", "USDC")))) == 4


async def test_notifications_ahead_of_the_endpoints_do_not_stop_the_reads(one: FeedStand) -> None:
    changed = one.swap()
    # The WebSocket's node is further than the endpoints get in two slots.
    hint = {changed: one.chain.tip.slot + 20}

    async def read(wanted: Wanted) -> None:
        asked = len(one.clock.sleeps_s)
        reading = asyncio.create_task(one.feed._read(wanted))
        await until(lambda: 0.4 in one.clock.sleeps_s[asked:])
        await one.clock.advance(0.4)
        await reading

    await read(Wanted(everything=True, min_slots=hint))
    assert one.slot(changed) == one.chain.tip.slot
    # A request's own slot is kept to.
    with pytest.raises(VenueUnavailableError):
        await read(Wanted(everything=True, min_slots=hint, min_slot=hint[changed]))


async def test_a_state_from_an_absurd_slot_is_replaced(
    one: FeedStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, truth = one.served.nodes[0], one.chain.tip
    with monkeypatch.context() as patched:
        patched.setattr(node, "block", lambda _: replace(truth, slot=10**9))
        await one.feed.refresh()
        assert one.feed._now.slot == 10**9
    await one.served.endpoints.check()
    changed = one.swap()
    await one.feed.refresh()
    assert one.slot(changed) == one.chain.tip.slot
    assert one.state(changed) == one.truth(changed, one.chain.tip.slot)
    assert one.feed._now.slot < 10**6


async def test_a_state_from_an_absurd_time_is_no_answer(
    one: FeedStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes are kept by the chain's seconds: from such a time on they would be counted for good."""
    node, now = one.served.nodes[0], one.feed.now
    one.swap()
    truth = one.chain.tip
    with monkeypatch.context() as patched:
        patched.setattr(node, "block", lambda _: replace(truth, time_s=2 * 10**9))
        with pytest.raises(VenueUnavailableError, match="the time of slot"):
            await one.feed.refresh()
    assert one.feed.now == now
    await one.feed.refresh()
    [traded] = await one.feed.traded_since(60)
    assert traded.second == truth.time_s
    # What the other one may have had is read again by those who follow volumes.
    assert not one.changes[-1].complete


async def test_requests_share_reads(one: FeedStand) -> None:
    one.served.arm("slow", delay_ms=20, times=None)
    before = one.calls()
    assert not any(await asyncio.gather(*(one.feed.refresh() for _ in range(50))))
    assert one.calls() - before <= 2


async def test_calls_per_second_stay_within_the_budget_for_all_pools() -> None:
    async with feed_stand("") as stand:
        before = stand.calls()
        for _ in range(50):
            await stand.clock.advance(0.2)
            stand.chain.advance()
            await stand.read()
        polls = (stand.calls() - before) / 10
        before = stand.calls()
        for _ in range(50):
            await stand.clock.advance(0.2)
            stand.chain.advance()
            # Every pool changes in every slot.
            for vault in stand.feed._by_vault:
                stand.feed.listener.on_account(vault, stand.chain.tip.slot)
            await stand.read()
        busy = (stand.calls() - before) / 10
    print(f"44 pools, calls per second: {polls} of polls, {busy} if all change in every slot")  # noqa: T201
    assert polls <= 2.5
    assert busy <= 7.5


# --- what a pool needs


async def test_an_array_that_a_quote_missed_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteora_dlmm, "READ_EACH_SIDE", 1)
    async with feed_stand("", pools=SOME) as stand:
        ref = next(ref for ref in stand.feed.pools("SOL", "USDC") if ref.id == stand.id_of(METEORA_DLMM))
        [snapshot] = stand.feed.local_snapshots([ref])
        state = snapshot.state
        assert isinstance(state, DlmmPool)
        missing = set(state.liquid_arrays) - set(state.arrays)
        assert missing
        direction = Direction.A_TO_B if max(missing) < min(state.arrays) else Direction.B_TO_A
        [view] = stand.feed.views([ref])
        amount = (view.amount_b if direction is Direction.A_TO_B else view.amount_a) * 999 // 1000
        with pytest.raises(BinArrayMissingError):
            state.quote_exact_out(direction, amount, snapshot.now)
        del stand.changes[:]
        assert await stand.feed.refresh()
        assert [change.pool_ids for change in stand.changes] == [{ref.id}]
        [snapshot] = stand.feed.local_snapshots([ref])
        again = snapshot.state.quote_exact_out(direction, amount, snapshot.now)
        monkeypatch.undo()
        whole = stand.local.state(stand.local.pool(METEORA_DLMM))
        assert again == whole.quote_exact_out(direction, amount, snapshot.now)
