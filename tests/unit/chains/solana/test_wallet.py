"""What the wallet holds, as the venue tells it."""

import asyncio
from dataclasses import replace

import pytest

from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.chains.solana.proof import Validity
from service.chains.solana.sending.flight import SentTransaction
from service.chains.venue import Balance, VenueRefusedError, VenueUnavailableError
from service.domain.failures import FailureCode
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS
from service.domain.transaction import TransactionState
from tests.support.local_chain import SOL, LocalChain
from tests.support.solana_venue import OPTIONS, venue_desk

EXACT_IN, EXACT_OUT = SwapMode
LANDED = TransactionState.LANDED


async def test_balances_are_read_once_for_all_who_ask() -> None:
    async with venue_desk() as desk:
        await desk.clock.advance(1.0)
        before = desk.served.endpoints.calls()["getMultipleAccounts"]
        balances = await asyncio.gather(*(desk.venue.balance("USDC") for _ in range(50)))
        assert set(balances) == {Balance(10**12)}
        assert desk.served.endpoints.calls()["getMultipleAccounts"] == before + 1


async def test_what_is_in_flight_is_not_free_until_it_has_landed() -> None:
    async with venue_desk(hold={"USDC": 10**9}) as desk:
        route = (await desk.quote("USDC", "SOL", 7 * 10**8)).route
        signed = await desk.signed(route)
        await desk.venue.submit(signed)
        assert await desk.venue.balance("USDC") == Balance(free=3 * 10**8, in_flight=7 * 10**8)
        with pytest.raises(VenueRefusedError) as refused:
            await desk.signed(route)
        assert refused.value.failure.code is FailureCode.INSUFFICIENT_BALANCE
        # In a block that is not confirmed yet.
        await desk.pass_slots(1)
        await desk.clock.advance(1.0)
        assert await desk.venue.balance("USDC") == Balance(free=3 * 10**8, in_flight=7 * 10**8)
        await desk.venue.outcome(signed, 60)
        assert await desk.venue.balance("USDC") == Balance(free=3 * 10**8)


async def test_an_exact_out_swap_may_take_its_maximum() -> None:
    async with venue_desk() as desk:
        route = (await desk.quote("USDC", "SOL", SOL, EXACT_OUT)).route
        signed = await desk.signed(route)
        await desk.venue.submit(signed)
        assert (await desk.venue.balance("USDC")).in_flight == signed.maximum_in > route.amount_in


async def test_before_a_swap_is_refused_the_balance_is_read_again() -> None:
    async with venue_desk(hold={"USDC": 10}) as desk:
        assert await desk.venue.balance("USDC") == Balance(10)
        desk.hold("USDC", 10**9)
        desk.chain.advance(2)
        route = (await desk.quote("USDC", "SOL", 10**9)).route
        assert (await desk.execute(await desk.signed(route))).state is LANDED


async def test_sol_is_that_of_the_wallet_itself_less_the_reserve() -> None:
    async with venue_desk(hold={"SOL": SOL}) as desk:
        assert await desk.venue.balance("SOL") == Balance(SOL - OPTIONS.sol_reserve, 0, OPTIONS.sol_reserve)


async def test_what_pays_in_sol_takes_it_from_an_account_of_its_own() -> None:
    async with venue_desk() as desk:
        signed = await desk.signed()
        await desk.venue.submit(signed)
        assert (await desk.venue.balance("SOL")).in_flight == SOL
        assert (await desk.venue.balance("USDC")).in_flight == 0


async def test_what_is_in_flight_of_a_token_that_no_pool_trades_any_more_is_not_sol() -> None:
    with_usdc = [pool.split(":")[1] for pool in LocalChain().chain.genesis.pools if "USDC" in pool]
    async with venue_desk(unlisted=with_usdc) as desk:
        assert "USDC" not in {token.symbol for token in desk.venue.tokens()}
        transaction = desk.local.swap(desk.local.leg(RAYDIUM_CPMM, 10**7, 1, sells_sol=False))
        validity = Validity(desk.chain.tip.height + 150, desk.chain.tip.slot)
        desk.venue.tracker.status(
            SentTransaction(str(transaction.signatures[0]), bytes(transaction), validity)
        )
        assert desk.venue.tracker.in_flight == 1
        assert (await desk.venue.balance("SOL")).in_flight == 0


async def test_a_block_that_a_fork_takes_back_is_in_flight_again() -> None:
    async with venue_desk() as desk:
        signed = await desk.signed()
        await desk.venue.submit(signed)
        await desk.pass_slots(6)
        assert (await desk.venue.balance("SOL")).in_flight == 0
        for place in (0, 1):
            desk.served.arm("drop", place, times=None)
        desk.chain.fork(6, keep=False)
        await desk.pass_slots(8)
        assert desk.landings(signed) == 0
        assert (await desk.venue.balance("SOL")).in_flight == SOL


async def test_a_token_without_an_account_is_not_listed() -> None:
    async with venue_desk() as desk:
        desk.chain.accounts.write(desk.chain.tip.slot, desk.account("RAY"), None)
        # Balances are those of a confirmed block.
        desk.chain.advance(2)
        held = await desk.venue.balances(100)
        assert [token.symbol for token, _ in held] == sorted(TOKENS.keys() - {"RAY"})
        assert await desk.venue.balance("RAY") == await desk.venue.balance("NOBODY") == Balance()
        assert not desk.venue.is_unlimited("SOL")


async def test_a_node_that_is_behind_does_not_take_back_what_is_known() -> None:
    async with venue_desk() as desk:
        desk.served.arm("behind", 1, slots=15, times=None)
        known = await desk.venue.balance("USDC")
        desk.served.arm("down", 0, times=None)
        await desk.clock.jump(1.0)
        reading = asyncio.create_task(desk.venue.balance("USDC"))
        while not reading.done():
            await desk.clock.advance(0.4)
        with pytest.raises(VenueUnavailableError):
            await reading
        for node in desk.served.nodes:
            node.faults.clear()
        await desk.clock.advance(2.0)
        assert await desk.venue.balance("USDC") == known


async def test_an_absurd_slot_of_the_balances_does_not_count_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with venue_desk(endpoints=1) as desk:
        node = desk.served.nodes[0]
        await desk.clock.jump(1.0)
        with monkeypatch.context() as patched:
            truth = desk.chain.tip
            patched.setattr(node, "block", lambda _: replace(truth, slot=10**15))
            known = await desk.venue.balance("USDC")
        await desk.served.endpoints.check()
        await desk.clock.jump(1.0)
        reading = asyncio.create_task(desk.venue.balance("USDC"))
        while not reading.done():
            await desk.clock.advance(0.4)
        assert await reading == known


async def test_without_a_node_there_is_no_balance() -> None:
    async with venue_desk() as desk:
        for place in (0, 1):
            desk.served.arm("down", place, times=None)
        with pytest.raises(VenueUnavailableError):
            await desk.venue.balance("SOL")
