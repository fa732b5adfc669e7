"""The Solana venue on a local chain: from a route to what became of its transaction, and after a restart."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from solders.message import MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.amm import DlmmPool
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY
from service.chains.paper.pool_json import METEORA_DLMM, RAYDIUM_CPMM
from service.chains.solana.addresses import SYSTEM_PROGRAM
from service.chains.solana.builder import ComputeBudget
from service.chains.solana.fees import FixedFee
from service.chains.venue import Balance, VenueUnavailableError
from service.domain.failures import FailureCode
from service.domain.mode import TradingMode
from service.domain.quote import SwapMode
from service.domain.transaction import (
    NetworkCost,
    SeenCommitment,
    SignedTransaction,
    TransactionState,
    TransactionStatus,
)
from service.sandbox.node import Node
from service.sandbox.rpc.methods import METHODS
from service.sandbox.rpc.params import Params
from service.settings import InvalidSettingError
from tests.support.clock import ManualClock
from tests.support.local_chain import RENT, SOL
from tests.support.served_chain import served_chain
from tests.support.solana_venue import OPTIONS, WHOLE_LIFE, VenueDesk, venue_desk

UNKNOWN, PENDING = TransactionState.UNKNOWN, TransactionState.PENDING
LANDED, FAILED, EXPIRED = TransactionState.LANDED, TransactionState.FAILED, TransactionState.EXPIRED
EXACT_IN, EXACT_OUT = SwapMode
FEE = 5_000


def budget_of(signed: SignedTransaction) -> ComputeBudget:
    """Return the limits and the priority fee of a transaction."""
    message = VersionedTransaction.from_bytes(signed.raw).message
    assert isinstance(message, MessageV1)
    units, loaded = message.config.compute_unit_limit, message.config.loaded_accounts_data_size_limit
    assert units is not None
    assert loaded is not None
    return ComputeBudget(units, loaded, message.config.priority_fee or 0)


async def totals(desk: VenueDesk) -> dict[str, int]:
    """Return what the wallet holds after the last finalized transaction."""
    return {token.symbol: balance.total for token, balance in await desk.venue.balances(100)}


def changes(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        token: change for token in {*before, *after} if (change := after.get(token, 0) - before.get(token, 0))
    }


# --- Identity


async def test_it_is_known_by_its_chain_and_its_wallet() -> None:
    async with venue_desk() as desk:
        identity = await desk.venue.identity()
        genesis = desk.chain.genesis
        assert identity.kind == desk.venue.kind == "solana"
        assert identity.market == str(genesis.genesis_hash)
        assert identity.wallet == desk.venue.address == str(genesis.wallet.pubkey())
        assert desk.venue.mode is TradingMode.PAPER
        assert desk.venue.outcomes_take_long


async def test_an_endpoint_of_another_cluster_stops_the_start() -> None:
    async with venue_desk(options=replace(OPTIONS, genesis_hash="another")) as desk:
        with pytest.raises(InvalidSettingError, match="is of the cluster with the genesis hash"):
            await desk.venue.identity()


async def test_without_a_node_it_is_not_known() -> None:
    async with venue_desk() as desk:
        for place in (0, 1):
            desk.served.arm("down", place, times=None)
        with pytest.raises(VenueUnavailableError):
            await desk.venue.identity()


async def test_the_start_waits_once_for_an_endpoint_that_is_only_sent_to_and_says_no_cluster() -> None:
    clock = ManualClock()
    async with served_chain("", "#send", clock=clock, started=False) as served:
        served.arm("error", 1, times=None, code=-32601, message="not here", method="getGenesisHash")
        venue = VenueDesk(served, clock).venue
        try:
            await venue.identity()
            assert served.endpoints.all[1].calls == {"getGenesisHash": 1}
        finally:
            await venue.stop()


async def test_one_of_another_cluster_that_is_only_sent_to_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    async with served_chain("", "#send", clock=clock, started=False) as served:
        unchanged = METHODS["getGenesisHash"]

        def answer(node: Node, params: Params) -> Any:
            return str(Pubkey.default()) if node is served.nodes[1] else unchanged(node, params)

        monkeypatch.setitem(METHODS, "getGenesisHash", answer)
        venue = VenueDesk(served, clock).venue
        try:
            with pytest.raises(InvalidSettingError, match="is of the cluster with the genesis hash 111"):
                await venue.identity()
        finally:
            await venue.stop()


# --- A market order's whole way


async def test_a_swap_lands_with_its_exact_amounts_and_its_cost() -> None:
    async with venue_desk() as desk:
        venue, before = desk.venue, await totals(desk)
        route = (await desk.quote("SOL", "USDC", SOL)).route
        signed = await desk.signed(route)
        assert signed.blockhash_slot == desk.chain.block_by(desk.chain.tip.slot - 2).slot
        assert signed.last_valid_height == desk.chain.tip.height - 2 + 150
        assert (signed.maximum_in, signed.minimum_out) == route.limits(50)
        assert (await venue.submit(signed)).state is UNKNOWN
        assert await venue.balance("SOL") == Balance.of(
            before["SOL"], in_flight=SOL, reserve=OPTIONS.sol_reserve
        )
        await desk.pass_slots(1)
        first = await venue.status(signed)
        assert first.state is PENDING
        assert first.seen is not None
        assert (first.seen.commitment, first.seen.fill) == (SeenCommitment.PROCESSED, None)
        await desk.pass_slots(4)
        later = await venue.status(signed)
        assert later.seen is not None
        assert later.seen.commitment is SeenCommitment.CONFIRMED
        end = await venue.outcome(signed, 60)
        assert end.state is LANDED
        assert later.seen.fill == end.fill
        assert end.fill is not None
        assert (end.fill.amount_in, end.fill.amount_out) == route.amounts
        assert end.fill.tx_hash == signed.id
        assert end.cost == NetworkCost(FEE)
        assert end.residue == ()
        assert end.landing is not None
        assert end.landing.slot == later.seen.slot
        assert desk.landings(signed) == 1
        assert changes(before, await totals(desk)) == {"SOL": -SOL - FEE, "USDC": route.amount_out}
        assert (await venue.balance("SOL")).in_flight == 0
        assert await venue.status(signed) == end
        assert await venue.submit(signed) == end


async def test_its_limits_are_those_of_its_simulation() -> None:
    async with venue_desk() as desk:
        signed = await desk.signed()
        budget = budget_of(signed)
        await desk.execute(signed)
        landed = desk.chain.landed(signed.id)
        assert landed is not None
        assert landed.execution.units <= budget.compute_units < 1.3 * landed.execution.units
        assert 0 < budget.loaded_bytes < 16 * 1024 * 1024
        assert budget.priority_fee == 0


async def test_a_split_over_all_programs_lands() -> None:
    async with venue_desk() as desk:
        before = await totals(desk)
        route = (await desk.quote("SOL", "USDC", 9_000 * SOL)).route
        assert len(route.legs) > 2
        end = await desk.execute(await desk.signed(route))
        assert end.fill is not None
        assert (end.fill.amount_in, end.fill.amount_out) == route.amounts
        assert changes(before, await totals(desk)) == {
            "SOL": -route.amount_in - FEE,
            "USDC": route.amount_out,
        }


@pytest.mark.parametrize("mode", SwapMode)
async def test_two_hops_leave_a_residue_that_the_wallet_has(mode: SwapMode) -> None:
    async with venue_desk() as desk:
        before = await totals(desk)
        route = (await desk.quote("JUP", "BONK", 10**9)).route
        if mode is EXACT_OUT:
            route = (await desk.quote("JUP", "BONK", route.amount_out, mode)).route
        assert {len(path.legs) for path in route.paths} == {2}
        end = await desk.execute(await desk.signed(route))
        assert end.fill is not None
        assert (end.fill.amount_in, end.fill.amount_out) == route.amounts
        residue = {each.token: each.amount for each in end.residue}
        assert residue
        assert min(residue.values()) > 0
        assert end.cost == NetworkCost(FEE)
        expected = {"JUP": -route.amount_in, "BONK": route.amount_out, "SOL": -FEE}
        for token, amount in residue.items():
            expected[token] = expected.get(token, 0) + amount
        assert changes(before, await totals(desk)) == expected


async def test_exact_out_pays_out_exactly_the_amount() -> None:
    async with venue_desk() as desk:
        route = (await desk.quote("SOL", "USDC", 10**8, EXACT_OUT)).route
        signed = await desk.signed(route)
        assert signed.maximum_in > route.amount_in
        end = await desk.execute(signed)
        assert end.fill is not None
        assert end.fill.amount_out == 10**8
        assert end.fill.amount_in == route.amount_in


async def test_the_rent_of_a_new_account_is_a_cost_beside_the_fee() -> None:
    async with venue_desk() as desk:
        desk.chain.accounts.write(desk.chain.tip.slot, desk.account("USDC"), None)
        # The balances are those of a confirmed block.
        desk.chain.advance(2)
        before = await totals(desk)
        assert "USDC" not in before
        end = await desk.execute(await desk.signed())
        assert end.cost == NetworkCost(FEE, rent=RENT)
        assert end.fill is not None
        assert changes(before, await totals(desk)) == {
            "SOL": -SOL - FEE - RENT,
            "USDC": end.fill.amount_out,
        }


async def test_a_dlmm_pool_that_has_moved_into_the_next_array_is_still_swapped_in() -> None:
    async with venue_desk() as desk:
        pool = desk.local.pool(METEORA_DLMM)
        route = desk.through(str(pool.addresses.pool), "SOL", "USDC", SOL)
        signed = await desk.signed(route, slippage_bps=9_000)
        before = desk.local.state(pool)
        desk.served.sandbox.control.mover.arm(6_000)
        end = await desk.execute(signed)
        after = desk.local.state(pool)
        assert isinstance(before, DlmmPool)
        assert isinstance(after, DlmmPool)
        assert after.active_id // BINS_PER_ARRAY == before.active_id // BINS_PER_ARRAY - 1
        assert end.state is LANDED, end


async def test_each_attempt_of_an_order_has_a_signature_of_its_own() -> None:
    async with venue_desk() as desk:
        first = await desk.swap()
        swaps = [first, replace(first, attempt=2), replace(first, order_id=desk.clock.new_order_id())]
        signed = [await desk.venue.prepare(swap) for swap in swaps]
        assert len({each.last_valid_height for each in signed}) == 1
        assert len({each.id for each in signed}) == 3


# --- Failed, and expired


async def test_a_price_that_moves_before_the_landing_fails_and_costs_the_fee() -> None:
    async with venue_desk() as desk:
        before = await totals(desk)
        signed = await desk.signed()
        desk.served.sandbox.control.mover.arm(500)
        end = await desk.execute(signed)
        assert end.state is FAILED
        assert end.failure is not None
        assert end.failure.code is FailureCode.SLIPPAGE_EXCEEDED
        assert end.fill is None
        assert end.cost == NetworkCost(FEE)
        assert end.landing is not None
        assert changes(before, await totals(desk)) == {"SOL": -FEE}


async def test_too_little_sol_for_the_rent_is_no_lack_of_what_is_sold() -> None:
    async with venue_desk() as desk:
        signed = await desk.signed((await desk.quote("USDC", "SOL", 10**7)).route)
        # When it was simulated there was enough.
        desk.hold("SOL", 1_000_000)
        end = await desk.execute(signed)
        assert end.failure is not None
        assert end.failure.code is FailureCode.INSUFFICIENT_SOL
        assert f"error 1 of {SYSTEM_PROGRAM}" in end.failure.detail
        desk.hold("SOL", 10 * SOL)
        await desk.pass_slots(4)
        sold = await desk.signed()
        desk.hold("SOL", SOL // 2)
        end = await desk.execute(sold)
        assert end.failure is not None
        assert end.failure.code is FailureCode.INSUFFICIENT_BALANCE


async def test_it_expires_with_a_proof_and_the_next_try_offers_half_as_much_again() -> None:
    options = replace(OPTIONS, priority=FixedFee(1_000))
    async with venue_desk(options=options) as desk:
        first = await desk.swap()
        signed = await desk.venue.prepare(first)
        for place in (0, 1):
            desk.served.arm("drop", place, times=None)
        await desk.venue.submit(signed)
        await desk.pass_slots(151, every=10)
        # The last block that could have taken it is not final yet.
        assert (await desk.venue.status(signed)).state is UNKNOWN
        await desk.pass_slots(WHOLE_LIFE - 151 + 4)
        assert await desk.venue.status(signed) == TransactionStatus(EXPIRED)
        assert await desk.venue.submit(signed) == TransactionStatus(EXPIRED)
        for node in desk.served.nodes:
            node.faults.clear()
        await desk.venue.refresh()
        second = await desk.venue.prepare(replace(first, attempt=2, expired_attempts=1))
        assert [budget_of(each).priority_fee for each in (signed, second)] == [1_000, 1_500]
        # That follows from the order alone: also on another instance, or after a restart.
        async with desk.restarted() as other:
            swaps = [replace(first, attempt=number, expired_attempts=number - 1) for number in (2, 3)]
            fees = [budget_of(await other.venue.prepare(swap)).priority_fee for swap in swaps]
            assert fees == [1_500, 2_250]
        assert (await desk.execute(second)).cost == NetworkCost(FEE + 1_500)
        assert desk.landings(signed) == 0


async def test_the_busiest_pool_decides_the_priority_fee() -> None:
    async with venue_desk() as desk:
        # More than a quarter of the blocks has a swap in that pool, with 7,000 lamports for 400,000 units.
        for _ in range(30):
            transaction = desk.local.sell()
            desk.chain.submit(transaction, bytes(transaction))
            desk.chain.advance()
        await desk.clock.jump(30 * 0.2)
        await desk.venue.refresh()
        pool = str(desk.local.pool(RAYDIUM_CPMM).addresses.pool)
        signed = await desk.signed(desk.through(pool, "SOL", "USDC", SOL))
        budget = budget_of(signed)
        assert budget.priority_fee == -(-budget.compute_units * 7_000 // 400_000)


# --- After a restart


async def test_another_instance_finds_out_what_became_of_it_from_the_stored_bytes() -> None:
    async with venue_desk() as desk:
        landed, never, lost = [await desk.signed(slippage_bps=9_000) for _ in range(3)]
        failed = await desk.signed()
        for each in (landed, lost):
            await desk.venue.submit(each)
        await desk.pass_slots(4)
        desk.served.sandbox.control.mover.arm(500)
        await desk.venue.submit(failed)
        await desk.pass_slots(2)
        async with desk.restarted() as other:
            calls = other.served.endpoints.calls
            before = calls()["getSignatureStatuses"]
            known = await asyncio.gather(*map(other.venue.status, (landed, failed, never, lost)))
            assert [status.state for status in known] == [PENDING, PENDING, UNKNOWN, PENDING]
            # All of them by one call.
            assert calls()["getSignatureStatuses"] == before + 1
            ends = [await other.venue.outcome(each, 60) for each in (landed, failed)]
            assert [end.state for end in ends] == [LANDED, FAILED]
            assert ends[0].fill is not None
            # Sent for the first time, and again.
            await asyncio.gather(*(other.venue.submit(never) for _ in range(3)))
            assert (await other.venue.outcome(never, 60)).state is LANDED
            assert [desk.landings(each) for each in (landed, failed, never, lost)] == [1, 1, 1, 1]


async def test_long_after_its_landing_it_is_found_in_the_history() -> None:
    async with venue_desk() as desk:
        signed, never = await desk.signed(), await desk.signed()
        end = await desk.execute(signed)
        desk.chain.advance(400)
        await desk.clock.jump(400 * 0.2)
        async with desk.restarted() as other:
            assert await other.venue.status(signed) == end
            assert await other.venue.status(never) == TransactionStatus(EXPIRED)
            assert await other.venue.submit(never) == TransactionStatus(EXPIRED)
            assert desk.landings(never) == 0


async def test_without_a_node_a_status_is_no_status() -> None:
    async with venue_desk() as desk:
        signed = await desk.signed()
        for place in (0, 1):
            desk.served.arm("down", place, times=None)
        with pytest.raises(VenueUnavailableError):
            await desk.venue.status(signed)
        with pytest.raises(VenueUnavailableError):
            await desk.venue.outcome(signed, 0.01)
        # It may have arrived, so nothing is concluded from it.
        assert (await desk.venue.submit(signed)).state is UNKNOWN
        for node in desk.served.nodes:
            node.faults.clear()
        await desk.clock.advance(2.0)
        await desk.pass_slots(8)
        assert (await desk.venue.outcome(signed, 60)).state is LANDED
        assert desk.landings(signed) == 1
