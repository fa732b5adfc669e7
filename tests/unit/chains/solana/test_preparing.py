"""Why a swap is not signed: nothing is sent, and the order is told the reason."""

import asyncio
from dataclasses import replace

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from service.chains.solana import preparing
from service.chains.solana.fees import FixedFee
from service.chains.solana.receipt import read_simulated
from service.chains.solana.sending.preparation import MOST_RENT
from service.chains.solana.sending.signer import LocalSigner, SignerUnavailableError
from service.chains.solana.sending.watched import WatchedWallet
from service.chains.venue import Swap, SwapTooLateError, VenueRefusedError, VenueUnavailableError
from service.domain.failures import FailureCode, Remedy
from service.domain.mode import TradingMode
from service.domain.quote import Path, Route, SwapMode
from service.domain.transaction import NetworkCost, SimulatedSwap
from service.sandbox.rpc.methods import METHODS
from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain
from tests.support.solana_venue import OPTIONS, VenueDesk, venue_desk


async def refusal(desk: VenueDesk, swap: Swap) -> FailureCode:
    """Return why a swap is not signed; nothing has been sent."""
    with pytest.raises(VenueRefusedError) as refused:
        await desk.venue.prepare(swap)
    assert desk.served.endpoints.calls()["sendTransaction"] == 0
    assert desk.venue.tracker.in_flight == 0
    return refused.value.failure.code


class OddSigner(LocalSigner):
    """A signer that signs something else, or not at all."""

    def __init__(self, keys: Keypair, kind: str) -> None:
        super().__init__(keys)
        self.kind = kind
        self.signed = 0

    async def sign(self, message: bytes) -> bytes:
        """Return no good signature."""
        self.signed += 1
        if self.kind == "down":
            raise SignerUnavailableError("it is down")
        return await super().sign(message[:-1] if self.kind == "lies" else message)


class SlowSigner(LocalSigner):
    """A signer for which time passes while it signs, the first times."""

    def __init__(self, slow_times: int) -> None:
        super().__init__(LocalChain().wallet)
        self.slow_times = slow_times
        self.desk: VenueDesk | None = None

    async def sign(self, message: bytes) -> bytes:
        """Take a while."""
        if self.slow_times and self.desk is not None:
            self.slow_times -= 1
            self.desk.chain.advance(80)
            await self.desk.clock.jump(16)
        return await super().sign(message)


# --- The route


async def test_a_pool_that_is_no_longer_quoted() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        [leg] = swap.route.legs
        desk.chain.accounts.write(desk.chain.tip.slot, Pubkey.from_string(leg.pool_id), None)
        await desk.pass_slots(1)
        await desk.venue.refresh()
        assert await refusal(desk, swap) is FailureCode.POOL_DISABLED


@pytest.mark.parametrize("program", PROGRAM_NAMES)
async def test_a_pool_that_is_switched_off_after_the_quote(program: str) -> None:
    async with venue_desk() as desk:
        pool = str(desk.local.pool(program).addresses.pool)
        swap = await desk.swap(desk.through(pool, "SOL", "USDC", SOL))
        await desk.switch_off(pool)
        assert await refusal(desk, swap) is FailureCode.POOL_DISABLED


async def test_a_route_that_is_too_large() -> None:
    async with venue_desk() as desk:
        paths = []
        for hub in ("USDT", "JUP", "RAY", "BONK"):
            firsts, seconds = desk.venue.pools("SOL", hub), desk.venue.pools(hub, "USDC")
            for one, other in zip(firsts, seconds, strict=False):
                [first] = desk.through(one.id, "SOL", hub, SOL).legs
                [second] = desk.through(other.id, hub, "USDC", max(1, first.amount_out // 2)).legs
                paths.append(Path((first, second)))
        swap = await desk.swap(Route(SwapMode.EXACT_IN, "SOL", "USDC", tuple(paths), 0))
        assert await refusal(desk, swap) is FailureCode.ROUTE_TOO_LARGE


async def test_a_price_that_is_worse_than_the_minimum() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        swap = replace(swap, minimum_out=2 * swap.route.amount_out)
        assert await refusal(desk, swap) is FailureCode.SLIPPAGE_EXCEEDED


# --- What it costs


async def test_more_than_the_wallet_holds() -> None:
    async with venue_desk(hold={"USDC": 10**6}) as desk:
        swap = await desk.swap((await desk.quote("USDC", "SOL", 10**7)).route)
        assert await refusal(desk, swap) is FailureCode.INSUFFICIENT_BALANCE


async def test_the_reserve_of_sol_is_not_sold() -> None:
    async with venue_desk(hold={"SOL": SOL}) as desk:
        most = SOL - OPTIONS.sol_reserve
        swap = await desk.swap((await desk.quote("SOL", "USDC", most + 1)).route)
        assert await refusal(desk, swap) is FailureCode.INSUFFICIENT_BALANCE
        await desk.venue.prepare(await desk.swap((await desk.quote("SOL", "USDC", most)).route))


async def test_of_an_exact_output_the_maximum_of_sol_must_be_free() -> None:
    async with venue_desk(hold={"SOL": SOL}) as desk:
        most = SOL - OPTIONS.sol_reserve
        route = (await desk.quote("SOL", "USDC", 10**8, SwapMode.EXACT_OUT)).route
        swap = await desk.swap(route)
        assert await refusal(desk, replace(swap, maximum_in=most + 1)) is FailureCode.INSUFFICIENT_BALANCE
        await desk.venue.prepare(replace(swap, maximum_in=most))


@pytest.mark.parametrize("lamports", [0, 1_000_000, 2_000_000])
async def test_no_sol_for_the_fee_or_the_rent(lamports: int) -> None:
    # Without an account, with enough for the fee, and with too little for the account of wrapped SOL.
    async with venue_desk(hold={"SOL": lamports}) as desk:
        swap = await desk.swap((await desk.quote("USDC", "SOL", 10**7)).route)
        assert await refusal(desk, swap) is FailureCode.INSUFFICIENT_SOL


@pytest.mark.parametrize("absurd", [1, MOST_RENT])
async def test_an_absurd_rent_fails_one_swap_and_no_other(
    monkeypatch: pytest.MonkeyPatch, absurd: int
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(METHODS, "getMinimumBalanceForRentExemption", lambda *_: absurd)
        async with venue_desk(endpoints=1, hold={"SOL": 10_000_000}) as desk:
            swap = await desk.swap((await desk.quote("USDC", "SOL", 10**7)).route)
            await refusal(desk, swap)
            patched.undo()
            await desk.venue.prepare(swap)


async def test_a_fee_above_the_cap_is_not_clipped() -> None:
    options = replace(OPTIONS, priority=FixedFee(10_000), max_fee=14_999)
    async with venue_desk(options=options) as desk:
        swap = await desk.swap()
        with pytest.raises(VenueRefusedError, match="15000 lamports, at most 14999") as refused:
            await desk.venue.prepare(swap)
        assert refused.value.failure.code is FailureCode.NETWORK_FEE_TOO_HIGH
        assert refused.value.failure.remedy is Remedy.REQUOTE


# --- The signer


@pytest.mark.parametrize("kind", ["down", "lies"])
async def test_a_signer_that_does_not_sign_this_message(kind: str) -> None:
    signer = OddSigner(LocalChain().wallet, kind)
    async with venue_desk(signer=signer) as desk:
        assert await refusal(desk, await desk.swap()) is FailureCode.SIGNER_UNAVAILABLE
        assert signer.signed == 1


async def test_a_slow_signer_signs_a_younger_blockhash() -> None:
    signer = SlowSigner(1)
    async with venue_desk(signer=signer) as desk:
        signer.desk = desk
        signed = await desk.signed()
        assert signed.blockhash_slot == desk.chain.tip.slot - 2


async def test_a_signer_that_is_always_slow() -> None:
    signer = SlowSigner(100)
    async with venue_desk(signer=signer) as desk:
        signer.desk = desk
        assert await refusal(desk, await desk.swap()) is FailureCode.SIGNER_UNAVAILABLE
        assert signer.slow_times == 97


# --- A simulation instead


async def test_what_is_simulated_is_what_a_live_venue_then_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with venue_desk() as desk:
        signed = await desk.signed()
        landed = await desk.execute(signed)
    assert landed.fill is not None
    assert landed.cost is not None
    watched = WatchedWallet(LocalChain().wallet.pubkey())
    async with venue_desk(options=replace(OPTIONS, mode=TradingMode.SIMULATE), signer=watched) as desk:
        swap = await desk.swap()
        assert await refusal(desk, swap) is FailureCode.SIMULATED
        with pytest.raises(VenueRefusedError) as refused:
            await desk.venue.prepare(swap)
        assert refused.value.simulated == SimulatedSwap(
            "SOL", "USDC", landed.cost, landed.fill.amount_in, landed.fill.amount_out
        )
        # A swap that would fail is told as such.
        worse = replace(swap, minimum_out=2 * swap.route.amount_out)
        assert await refusal(desk, worse) is FailureCode.SLIPPAGE_EXCEEDED
        assert (await desk.venue.identity()).kind == "solana-simulate"
        # A node that leaves the balances out.
        unchanged = read_simulated
        monkeypatch.setattr(
            preparing,
            "read_simulated",
            lambda answer, *others: unchanged(
                {name: value for name, value in answer.items() if name != "postTokenBalances"}, *others
            ),
        )
        with pytest.raises(VenueRefusedError) as refused:
            await desk.venue.prepare(swap)
        assert refused.value.simulated == SimulatedSwap("SOL", "USDC", NetworkCost(landed.cost.fee))


async def test_of_a_route_with_two_hops_its_ends_are_told() -> None:
    watched = WatchedWallet(LocalChain().wallet.pubkey())
    options = replace(OPTIONS, mode=TradingMode.SIMULATE)
    async with venue_desk(options=options, signer=watched, unlisted=("JUP-USDC",)) as desk:
        route = (await desk.quote("JUP", "USDC", 10**9)).route
        assert {len(path.legs) for path in route.paths} == {2}
        with pytest.raises(VenueRefusedError) as refused:
            await desk.venue.prepare(await desk.swap(route))
    simulated = refused.value.simulated
    assert simulated is not None
    assert (simulated.amount_in, simulated.amount_out) == (10**9, route.amount_out)


# --- Nodes


async def test_without_a_node_nothing_is_signed() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        for place in (0, 1):
            desk.served.arm("down", place, times=None)
        with pytest.raises(VenueUnavailableError):
            await desk.venue.prepare(swap)


async def test_it_is_not_simulated_on_state_that_is_older_than_the_quote() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        await desk.venue.prepare(swap)
        calls = desk.served.endpoints.calls
        before = calls()["simulateTransaction"]
        for place in (0, 1):
            desk.served.arm("behind", place, slots=5, times=None)
        preparing = asyncio.create_task(desk.venue.prepare(swap))
        while not preparing.done():
            await desk.clock.advance(0.4)
        with pytest.raises(VenueUnavailableError, match="simulateTransaction"):
            await preparing
        assert calls()["simulateTransaction"] > before


async def test_a_call_that_nodes_refuse_is_an_error_of_this_service() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        for place in (0, 1):
            desk.served.arm(
                "error", place, method="simulateTransaction", code=-32602, message="too large", times=None
            )
        assert await refusal(desk, swap) is FailureCode.INTERNAL_ERROR


# --- Time


async def test_a_swap_that_must_land_soon_names_an_older_blockhash() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        soon = replace(swap, valid_until=desk.clock.database_time() + 30)
        # No blockhash of the time before the start is known.
        with pytest.raises(SwapTooLateError):
            await desk.venue.prepare(soon)
        await desk.pass_slots(120)
        await desk.venue.refresh()
        now = desk.clock.database_time()
        signed = await desk.venue.prepare(replace(swap, valid_until=now + 30))
        blocks = signed.last_valid_height + 1 - (desk.chain.tip.height - 2)
        block_s = desk.venue.slot_ms / 1000
        assert 20 <= blocks < 150
        assert 30 - 1.5 * block_s * 15 < 1.5 * block_s * blocks <= 30
        assert (await desk.execute(signed)).fill is not None


async def test_the_time_to_land_is_that_after_the_call_for_the_blockhash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with venue_desk() as desk:
        await desk.pass_slots(150)
        await desk.venue.refresh()
        swap = replace(await desk.swap(), valid_until=desk.clock.database_time() + 40)
        blockhashes = desk.venue._preparer.blockhashes
        unchanged = blockhashes.renew

        async def renew() -> None:
            await unchanged()
            await desk.clock.jump(15)

        monkeypatch.setattr(blockhashes, "renew", renew)
        signed = await desk.venue.prepare(swap)
        blocks = signed.last_valid_height + 1 - (desk.chain.tip.height - 2)
        assert 1.5 * desk.venue.slot_ms / 1000 * blocks <= 25


async def test_too_little_time_to_land() -> None:
    async with venue_desk() as desk:
        await desk.pass_slots(150)
        await desk.venue.refresh()
        swap = await desk.swap()
        for left_s in (-1.0, 0.0, 2.0):
            with pytest.raises(SwapTooLateError):
                await desk.venue.prepare(replace(swap, valid_until=desk.clock.database_time() + left_s))


async def test_after_its_deadline_for_sending_nothing_is_signed() -> None:
    async with venue_desk() as desk:
        swap = await desk.swap()
        now = desk.clock.database_time()
        with pytest.raises(SwapTooLateError):
            await desk.venue.prepare(replace(swap, submit_by=now - 0.1))
        await desk.venue.prepare(replace(swap, submit_by=now + 0.1))
