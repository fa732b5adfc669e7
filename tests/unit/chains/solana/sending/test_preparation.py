"""What nodes are asked before a transaction is signed, up to its landing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.transaction import VersionedTransaction

from service.chains.paper.pool_json import METEORA_DLMM, RAYDIUM_CPMM
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.builder import BuiltTransaction, ComputeBudget, compile_transaction
from service.chains.solana.errors import failure_of
from service.chains.solana.fees import Percentile, priority_fee, unit_price
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.proof import Validity
from service.chains.solana.sending.flight import SentTransaction
from service.chains.solana.sending.preparation import (
    FEES_KEPT_S,
    MOST_RENT,
    RENT_KEPT_S,
    RecentFees,
    TokenAccountRent,
    latest_blockhash,
    simulate,
)
from service.chains.solana.sending.recent_blockhashes import RecentBlockhashes
from service.chains.solana.sending.signer import LocalSigner, sign_message
from service.chains.solana.simulation import WIDEST, Simulation
from service.chains.venue import SwapTooLateError, VenueUnavailableError
from service.domain.failures import FailureCode
from service.domain.transaction import TransactionState
from service.sandbox.node import Node
from service.sandbox.rpc.methods import METHODS
from service.sandbox.rpc.params import Params
from tests.support.local_chain import RENT, SOL
from tests.support.solana_tracking import SLOT_S, TrackedChain, tracked_chain

NO_BLOCKHASH = Hash.default()


def built(
    tracked: TrackedChain,
    instructions: list[Instruction],
    budget: ComputeBudget = WIDEST,
    blockhash: Hash = NO_BLOCKHASH,
) -> BuiltTransaction:
    return compile_transaction(instructions, tracked.local.wallet.pubkey(), budget, blockhash)


async def simulated(tracked: TrackedChain, instructions: list[Instruction], min_slot: int = 0) -> Simulation:
    message = built(tracked, instructions).signed_bytes
    programs = [each.program_id for each in instructions]
    return await simulate(tracked.served.endpoints, message, programs, min_slot)


ASKED: Mapping[str, Callable[[TrackedChain], Awaitable[object]]] = {
    "simulateTransaction": lambda tracked: simulated(tracked, []),
    "getLatestBlockhash": lambda tracked: latest_blockhash(tracked.served.endpoints),
    "getMinimumBalanceForRentExemption": (
        lambda tracked: TokenAccountRent(tracked.served.endpoints, tracked.clock).lamports()
    ),
    "getRecentPrioritizationFees": (
        lambda tracked: RecentFees(tracked.served.endpoints, tracked.clock).of([WRAPPED_SOL])
    ),
}


async def test_a_transaction_with_the_limits_of_its_simulation_lands() -> None:
    async with tracked_chain() as tracked:
        local = tracked.local
        legs = [local.leg(RAYDIUM_CPMM, SOL), local.leg(METEORA_DLMM, SOL)]
        instructions = local.instructions(legs)
        found = await simulated(tracked, instructions, tracked.chain.tip.slot)
        assert found.error is None
        assert found.loaded_bytes is not None
        recent_fees = await RecentFees(tracked.served.endpoints, tracked.clock).of(
            [leg.pool.addresses.pool for leg in legs]
        )
        limits = found.budget(0)
        fee = priority_fee(Percentile(75), unit_price(recent_fees, 75), limits.compute_units, 0)
        assert fee == 0
        recent = await latest_blockhash(tracked.served.endpoints)
        message = built(tracked, instructions, found.budget(fee), recent.blockhash).signed_bytes
        raw = await sign_message(LocalSigner(local.wallet), message, 1.0)
        signature = str(VersionedTransaction.from_bytes(raw).signatures[0])
        sent = SentTransaction(signature, raw, Validity(recent.last_valid_height, recent.slot))
        await tracked.tracker.send(sent)
        await tracked.pass_slots(40)
        end = tracked.status(sent)
        assert end.state is TransactionState.LANDED
        assert end.receipt is not None
        assert end.receipt.network_fee == 5_000
        landed = tracked.chain.landed(signature)
        assert landed is not None
        assert landed.execution.units <= limits.compute_units < 1.3 * landed.execution.units


async def test_a_simulation_says_why_it_would_fail() -> None:
    async with tracked_chain() as tracked:
        found = await simulated(
            tracked, tracked.local.instructions([tracked.local.leg(RAYDIUM_CPMM, SOL, 10**12)])
        )
        assert found.error is not None
        assert failure_of(found.error, MAINNET).code is FailureCode.SLIPPAGE_EXCEEDED


async def test_a_simulation_refuses_what_the_wallet_cannot_pay() -> None:
    async with tracked_chain() as tracked:
        local = tracked.local
        legs = [local.leg_at_any_price(RAYDIUM_CPMM, 20_000 * SOL, sells_sol=True)]
        found = await simulated(tracked, local.instructions(legs))
        assert found.error is not None
        assert failure_of(found.error, MAINNET).code is FailureCode.INSUFFICIENT_BALANCE


async def test_a_simulation_on_an_older_state_is_none() -> None:
    async with tracked_chain() as tracked:
        instructions = tracked.local.instructions([tracked.local.leg(RAYDIUM_CPMM, SOL)])
        with pytest.raises(VenueUnavailableError):
            await simulated(tracked, instructions, tracked.chain.tip.slot + 1)


async def test_the_blockhash_is_confirmed_and_not_of_the_newest_block() -> None:
    async with tracked_chain() as tracked:
        recent = await latest_blockhash(tracked.served.endpoints)
        block = tracked.chain.block_by(recent.slot)
        assert block.height == tracked.chain.tip.height - 2
        assert (recent.blockhash, recent.last_valid_height) == (block.blockhash, block.height + 150)


async def test_recent_fees_are_asked_for_by_account_and_kept_for_a_while() -> None:
    async with tracked_chain() as tracked:
        leg = tracked.local.leg(RAYDIUM_CPMM, SOL)
        tracked.local.send(tracked.local.swap(leg))
        tracked.chain.advance(1)
        fees = RecentFees(tracked.served.endpoints, tracked.clock)
        pools = [leg.pool.addresses.pool, tracked.local.pool(METEORA_DLMM).addresses.pool]
        used, unused = await fees.of(pools)
        # 7,000 lamports for 400,000 units.
        assert (max(used), max(unused)) == (17_500, 0)
        calls = tracked.served.endpoints.calls
        assert calls()["getRecentPrioritizationFees"] == 2
        assert await fees.of(pools) == [used, unused]
        assert calls()["getRecentPrioritizationFees"] == 2
        tracked.clock.now_s += FEES_KEPT_S
        tracked.chain.advance(200)
        assert max((await fees.of(pools))[0]) == 0
        assert calls()["getRecentPrioritizationFees"] == 4


@pytest.mark.parametrize("fails", [False, True])
async def test_many_at_once_share_the_calls(fails: bool) -> None:
    async with tracked_chain(endpoints=1) as tracked:
        endpoints = tracked.served.endpoints
        fees, rent = RecentFees(endpoints, tracked.clock), TokenAccountRent(endpoints, tracked.clock)
        blockhashes = RecentBlockhashes(endpoints, tracked.clock)
        pools = [tracked.local.pool(each).addresses.pool for each in (RAYDIUM_CPMM, METEORA_DLMM)]
        if fails:
            tracked.served.arm("down", times=None)
        cancelled = asyncio.create_task(fees.of(pools))
        await asyncio.sleep(0)
        asked = [asyncio.create_task(fees.of(pools)) for _ in range(50)]
        of_rent = [asyncio.create_task(rent.lamports()) for _ in range(50)]
        renewals = [asyncio.create_task(blockhashes.renew()) for _ in range(50)]
        await asyncio.sleep(0)
        cancelled.cancel()
        answers = await asyncio.gather(*asked, *of_rent, *renewals, return_exceptions=True)
        assert all(isinstance(each, VenueUnavailableError) is fails for each in answers)
        assert endpoints.calls()["getRecentPrioritizationFees"] == 2
        assert endpoints.calls()["getMinimumBalanceForRentExemption"] == 1
        # The first one counts once a second one fits it.
        assert endpoints.calls()["getLatestBlockhash"] == (1 if fails else 2)


async def test_the_rent_of_a_token_account_is_asked_for_and_kept_for_a_while() -> None:
    async with tracked_chain(endpoints=1) as tracked:
        rent = TokenAccountRent(tracked.served.endpoints, tracked.clock)
        method = "getMinimumBalanceForRentExemption"
        calls = tracked.served.endpoints.calls
        assert [await rent.lamports() for _ in range(3)] == [RENT] * 3
        assert calls()[method] == 1
        tracked.clock.now_s += RENT_KEPT_S
        tracked.served.arm("garbage", form="null_result", method=method)
        with pytest.raises(VenueUnavailableError):
            await rent.lamports()
        assert await rent.lamports() == RENT
        assert calls()[method] == 3


async def test_an_absurd_rent_is_asked_for_at_the_next_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    method = "getMinimumBalanceForRentExemption"
    unchanged = METHODS[method]

    def answer(node: Node, params: Params) -> Any:
        return MOST_RENT + 1 if node is tracked.nodes[0] else unchanged(node, params)

    monkeypatch.setitem(METHODS, method, answer)
    async with tracked_chain(endpoints=2) as tracked:
        rent = TokenAccountRent(tracked.served.endpoints, tracked.clock)
        assert await rent.lamports() == RENT
        rent.forget()
        assert await rent.lamports() == RENT
        assert tracked.served.endpoints.calls()[method] == 3


async def test_a_blockhash_that_the_next_answer_contradicts_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unchanged = METHODS["getLatestBlockhash"]
    absurd = iter([10**15])

    def answer(node: Node, params: Params) -> Any:
        found = unchanged(node, params)
        slot = next(absurd, found["context"]["slot"])
        return {**found, "context": {"slot": slot}}

    monkeypatch.setitem(METHODS, "getLatestBlockhash", answer)
    async with tracked_chain(endpoints=1) as tracked:
        kept = RecentBlockhashes(tracked.served.endpoints, tracked.clock)
        await kept.renew()
        with pytest.raises(VenueUnavailableError, match="contradicts itself"):
            kept.choose(None, SLOT_S)
        await kept.renew()
        assert kept.choose(None, SLOT_S).slot == tracked.chain.tip.slot - 2


async def test_after_many_slots_without_a_block_no_blockhash_of_before_is_chosen() -> None:
    """It contradicts those of before; with one of them, a transaction could never land."""
    async with tracked_chain() as tracked:
        kept = RecentBlockhashes(tracked.served.endpoints, tracked.clock)
        await kept.renew()
        tracked.chain.skip(200)
        tracked.chain.advance(160)
        await kept.renew()
        assert kept.choose(None, SLOT_S).slot == tracked.chain.tip.slot - 2


async def test_blockhashes_are_kept_for_what_must_end_soon() -> None:
    async with tracked_chain() as tracked:
        kept = RecentBlockhashes(tracked.served.endpoints, tracked.clock)
        await kept.renew()
        newest = kept.choose(None, SLOT_S)
        assert newest.slot == tracked.chain.tip.slot - 2
        for _ in range(13):
            tracked.chain.advance(10)
            await kept.renew()
        # 151 blocks less 130, each counted as one and a half times as long.
        assert kept.choose(21 * 1.5 * SLOT_S, SLOT_S) == newest
        with pytest.raises(SwapTooLateError):
            kept.choose(20.9 * 1.5 * SLOT_S, SLOT_S)


@pytest.mark.parametrize("method", ASKED)
async def test_a_malformed_answer_is_asked_for_at_the_next_endpoint(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    unchanged = METHODS[method]
    malformed = 1

    def answer(node: Node, params: Params) -> Any:
        if node in tracked.nodes[:malformed]:
            return {"context": {"slot": tracked.chain.tip.slot}, "value": "nonsense"}
        return unchanged(node, params)

    monkeypatch.setitem(METHODS, method, answer)
    async with tracked_chain(endpoints=2) as tracked:
        assert await ASKED[method](tracked)
        assert tracked.served.endpoints.calls()[method] == 2
        malformed = 2
        with pytest.raises(VenueUnavailableError, match=rf"{method}: 127.0.0.1 \(.*; 127.0.0.1 \("):
            await ASKED[method](tracked)


async def test_without_a_node_there_is_nothing_to_prepare_from() -> None:
    async with tracked_chain(endpoints=1) as tracked:
        instructions = tracked.local.instructions([tracked.local.leg(RAYDIUM_CPMM, SOL)])
        pool = tracked.local.pool(RAYDIUM_CPMM).addresses.pool
        tracked.served.arm("down", times=None)
        with pytest.raises(VenueUnavailableError):
            await simulated(tracked, instructions)
        with pytest.raises(VenueUnavailableError):
            await latest_blockhash(tracked.served.endpoints)
        with pytest.raises(VenueUnavailableError):
            await RecentFees(tracked.served.endpoints, tracked.clock).of([pool])
