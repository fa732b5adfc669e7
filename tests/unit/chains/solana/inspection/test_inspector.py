"""What the doctor finds at the cluster, the wallet, the tokens and the pools."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.inspection import CheckResult
from service.chains.paper.pool_json import METEORA_DAMM_V2, RAYDIUM_CPMM
from service.chains.solana.addresses import SYSTEM_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.inspection.cluster import UPGRADEABLE_LOADER
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.sending.signer import LocalSigner
from service.chains.solana.sending.watched import WatchedWallet
from service.chains.venue import VenueUnavailableError
from service.domain.mode import TradingMode
from service.domain.tokens import TOKENS, Token
from service.sandbox.accounts import StoredAccount, mint_account
from service.sandbox.rpc.methods import METHODS
from service.settings import InvalidSettingError
from tests.support.inspected_chain import InspectedChain, inspected_chain, listed_pools
from tests.support.local_chain import RENT, SOL

SWITCHED_OFF = 4
# Of a token account.
STATE_AT, FROZEN = 108, 2
NEEDED = 1_000_000 + 2 * RENT
"""Lamports that one order may need for its fee and rent."""


class WrongSigner(LocalSigner):
    """Signs something else."""

    async def sign(self, message: bytes) -> bytes:
        return await super().sign(message + b"!")


class SilentSigner(LocalSigner):
    """Does not answer, and knows whether it was closed."""

    closed = False

    async def sign(self, _message: bytes) -> bytes:
        return await asyncio.Future[bytes]()

    async def close(self) -> None:
        SilentSigner.closed = True


def refuse(reason: str) -> Callable[[], NoReturn]:
    def load() -> NoReturn:
        raise InvalidSettingError(reason)

    return load


# --- The cluster


async def test_programs_are_deployed_where_they_are_looked_for() -> None:
    async with inspected_chain() as inspected:
        found = await inspected.checks("program")
    assert [each.subject for each in found] == list(MAINNET.__slots__)
    assert all(each.found.endswith("is deployed, last in slot 777") for each in found)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_program_that_is_not_there_matters_if_its_pools_are_listed(listed: bool) -> None:
    elsewhere = replace(MAINNET, meteora_dlmm=Pubkey.new_unique())
    async with inspected_chain() as inspected:
        pools = [ListedPool(elsewhere.meteora_dlmm, Pubkey.new_unique())] if listed else []
        found = await inspected.checks("program", ids=elsewhere, load_pools=lambda: pools)
    dlmm = found[2]
    assert dlmm.found == f"{elsewhere.meteora_dlmm} is no program on this cluster"
    assert dlmm.result is (CheckResult.FAILED if listed else CheckResult.WARNING)
    assert [each.result for each in found].count(CheckResult.OK) == 3


async def test_a_program_whose_code_was_closed() -> None:
    async with inspected_chain() as inspected:
        code, _ = Pubkey.find_program_address([bytes(MAINNET.raydium_cpmm)], UPGRADEABLE_LOADER)
        inspected.write(code, None)
        found = await inspected.checks("program")
    assert found[0].result is CheckResult.FAILED
    assert found[0].found == f"{MAINNET.raydium_cpmm} has no code: it was closed"


@pytest.mark.parametrize(("ahead_s", "verdict"), [(9, CheckResult.OK), (100, CheckResult.WARNING)])
async def test_this_machine_s_clock_is_compared_with_the_chain_s(ahead_s: int, verdict: CheckResult) -> None:
    async with inspected_chain() as inspected:
        await inspected.clock.advance(ahead_s)
        found = await inspected.check("clock")
    assert found.result is verdict
    assert found.found == f"this machine's clock is {ahead_s} s ahead of the chain's"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [(None, CheckResult.OK), ({"cert": "x"}, CheckResult.WARNING), ("unknown", CheckResult.OK)],
)
async def test_whether_the_cluster_has_alpenglow(
    monkeypatch: pytest.MonkeyPatch, answer: Any, verdict: CheckResult
) -> None:
    if answer != "unknown":
        monkeypatch.setitem(METHODS, "getAgGenesisCert", lambda _node, _params: answer)
    async with inspected_chain() as inspected:
        found = await inspected.check("alpenglow")
    assert found.result is verdict


# --- The wallet


async def test_a_signer_that_cannot_be_loaded_or_signs_something_else() -> None:
    async with inspected_chain() as inspected:
        wallet = inspected.local.wallet
        missing = await inspected.checks(load_signer=refuse("no such file"))
        wrong = await inspected.check("signer", load_signer=lambda: WrongSigner(wallet))
    by_name = {each.name: each for each in missing}
    assert (by_name["signer"].result, by_name["signer"].found) == (CheckResult.FAILED, "no such file")
    assert "wallet new" in by_name["signer"].remedy
    # Everything else is looked at, but nothing can be simulated.
    assert by_name["pool"].result is CheckResult.OK
    assert "simulated" not in by_name["pool"].found
    assert "sol" not in by_name
    assert (wrong.result, wrong.found[:30]) == (CheckResult.FAILED, "the signer signed another mess")


async def test_a_signer_has_the_time_of_the_settings_and_is_closed() -> None:
    SilentSigner.closed = False
    async with inspected_chain() as inspected:
        wallet = inspected.local.wallet
        found = await inspected.check(
            "signer", load_signer=lambda: SilentSigner(wallet), signer_timeout_s=0.01
        )
    assert (found.result, found.found) == (CheckResult.FAILED, "the signer did not answer within 0.01 s")
    assert SilentSigner.closed


async def test_a_wallet_that_is_only_watched_signs_nothing() -> None:
    async with inspected_chain() as inspected:
        wallet = WatchedWallet(inspected.local.wallet.pubkey())
        found = await inspected.check("signer", mode=TradingMode.SIMULATE, load_signer=lambda: wallet)
    assert (found.result, found.found[:12]) == (CheckResult.OK, "only watched")


async def test_real_money_needs_its_wallet_named_and_limits() -> None:
    async with inspected_chain() as inspected:
        assert not await inspected.checks("real money")
        allowed = await inspected.check("real money", mode=TradingMode.LIVE)
        refused = await inspected.check(
            "real money", mode=TradingMode.LIVE, check_limits=lambda _signer: refuse("not set")()
        )
    assert allowed.result is CheckResult.OK
    assert (refused.result, refused.found) == (CheckResult.FAILED, "not set")


@pytest.mark.parametrize(
    ("lamports", "reserve", "verdict", "found"),
    [
        (0, SOL, CheckResult.FAILED, "it holds 0 SOL, and one order may need 0.00507856 SOL"),
        (NEEDED - 1, SOL, CheckResult.FAILED, "it holds 0.005078559 SOL, and one order may need"),
        (NEEDED, SOL, CheckResult.WARNING, "it holds 0.00507856 SOL, no more than SOLANA_SOL_RESERVE"),
        (2 * SOL, NEEDED - 1, CheckResult.WARNING, "it holds 2 SOL, of which 0.005078559 SOL are kept"),
        (2 * SOL, SOL, CheckResult.OK, "it holds 2 SOL; 1 SOL of it are kept"),
    ],
)
async def test_the_wallet_needs_sol_for_fees_and_rent(
    lamports: int, reserve: int, verdict: CheckResult, found: str
) -> None:
    async with inspected_chain() as inspected:
        wallet = inspected.local.wallet.pubkey()
        inspected.write(wallet, StoredAccount(lamports, SYSTEM_PROGRAM) if lamports else None)
        check = await inspected.check("sol", sol_reserve=reserve)
    assert check.result is verdict
    assert check.found.startswith(found)
    if lamports <= NEEDED:
        assert str(wallet) in check.remedy


async def test_a_token_account_s_address_is_no_wallet() -> None:
    async with inspected_chain() as inspected:
        inspected.write(inspected.local.wallet.pubkey(), StoredAccount(SOL, TOKEN_PROGRAM))
        check = await inspected.check("sol")
    assert (check.result, check.found[:15]) == (CheckResult.FAILED, "it is no wallet")


async def test_balances_are_those_of_the_tokens_that_may_be_traded() -> None:
    jup = replace(TOKENS["JUP"], mint=str(Pubkey.new_unique()))
    async with inspected_chain() as inspected:
        async with inspected.inspector(load_tokens=lambda: [*map(TOKENS.get, ("SOL", "USDC")), jup]) as found:
            held = {each.token.symbol: each.amount for each in await found.holdings()}
            assert found.address() == str(inspected.local.wallet.pubkey())
        stranger = Keypair()
        async with inspected.inspector(load_signer=lambda: LocalSigner(stranger)) as found:
            empty = {each.token.symbol: each.amount for each in await found.holdings()}
    assert held == {"SOL": 10_000 * SOL, "USDC": 10**12}
    assert empty == {"SOL": 0, "USDC": 0}


async def test_without_an_endpoint_the_reason_is_told() -> None:
    async with inspected_chain("", "") as inspected:
        inspected.served.arm("down", times=None)
        inspected.served.arm("behind", 1, times=None, slots=99)
        inspected.served.arm("unhealthy", 1, times=None, slots=99)
        async with inspected.inspector() as inspector:
            with pytest.raises(VenueUnavailableError, match=r"the connection was lost; .*99 slots behind"):
                await inspector.holdings()


# --- Tokens


async def test_mints_are_compared_with_the_list() -> None:
    nowhere, wrong = Token("NOWHERE", str(Pubkey.new_unique()), 6), replace(TOKENS["USDC"], decimals=9)
    odd = Token("ODD", str(Pubkey.new_unique()), 6)
    async with inspected_chain() as inspected:
        inspected.write(Pubkey.from_string(odd.mint), StoredAccount(SOL, SYSTEM_PROGRAM, mint_account(6, 1)))
        checks = await inspected.checks("token", load_tokens=lambda: [TOKENS["SOL"], nowhere, wrong, odd])
        unreadable = await inspected.checks(load_tokens=refuse("no list"))
    sol, *failed = checks
    assert sol.found == f"{TOKENS['SOL'].mint}, 9 decimals, of the token program"
    assert {each.result for each in failed} == {CheckResult.FAILED}
    assert failed[0].found == f"the mint {nowhere.mint} does not exist here"
    assert failed[1].found == "6 decimals on the chain, 9 in the list"
    assert failed[2].found == f"{odd.mint}: a mint cannot belong to {SYSTEM_PROGRAM}"
    assert {each.name: each.found for each in unreadable if each.result is CheckResult.FAILED} == {
        "token": "no list",
        "pool": "not checked: no list",
    }


# --- Pools


async def test_pools_quote_both_ways_and_their_swaps_are_simulated() -> None:
    async with inspected_chain() as inspected:
        pools = await inspected.checks("pool")
    assert [each.subject for each in pools] == [str(each.address) for each in listed_pools(inspected.local)]
    assert pools[0].found.startswith("raydium_cpmm, SOL/USDC, fee 0.25 %: 0.01 SOL for 1.507141 USDC, ")
    assert all(each.found.endswith("bytes, simulated") for each in pools)


async def test_what_the_wallet_cannot_pay_is_not_simulated() -> None:
    async with inspected_chain() as inspected:
        inspected.write(inspected.local.wallet.pubkey(), StoredAccount(NEEDED, SYSTEM_PROGRAM))
        pools = await inspected.checks("pool")
    assert {each.result for each in pools} == {CheckResult.OK}
    assert all("a transaction of" in each.found and "simulated" not in each.found for each in pools)


async def only_pool(inspected: InspectedChain, **changes: Any) -> tuple[CheckResult, str]:
    check = await inspected.check("pool", **changes)
    assert check.remedy
    return check.result, check.found


async def test_pools_that_cannot_be_traded() -> None:
    async with inspected_chain() as inspected:
        [cpmm] = listed_pools(inspected.local, [RAYDIUM_CPMM])
        nowhere = replace(cpmm, address=Pubkey.new_unique())
        assert await only_pool(inspected, load_pools=lambda: [nowhere]) == (
            CheckResult.FAILED,
            "it does not exist",
        )
        other = replace(cpmm, program=MAINNET.meteora_dlmm)
        assert await only_pool(inspected, load_pools=lambda: [other]) == (
            CheckResult.FAILED,
            f"it belongs to {MAINNET.raydium_cpmm}, not {MAINNET.meteora_dlmm}",
        )
        assert await only_pool(inspected, load_pools=lambda: [cpmm], load_tokens=lambda: [TOKENS["SOL"]]) == (
            CheckResult.FAILED,
            f"its token {TOKENS['USDC'].mint} is not one that may be traded",
        )
        assert await only_pool(inspected, load_pools=refuse("no list")) == (CheckResult.FAILED, "no list")
        account = inspected.local.account(cpmm.address)
        data = replace(CpmmPoolAccount.decode(account.data), status=SWITCHED_OFF).encode()
        inspected.write(cpmm.address, replace(account, data=data))
        assert await only_pool(inspected, load_pools=lambda: [cpmm]) == (
            CheckResult.FAILED,
            "it is not quoted: the pool's status is 4",
        )


async def test_a_pool_whose_program_refuses_the_swap() -> None:
    async with inspected_chain() as inspected:
        [damm] = listed_pools(inspected.local, [METEORA_DAMM_V2])
        pool = inspected.local.pool(METEORA_DAMM_V2).addresses
        # A quote follows from the pool's account, which does not know that its vault is frozen.
        vault = inspected.local.account(pool.token_b.vault)
        frozen = bytearray(vault.data)
        frozen[STATE_AT] = FROZEN
        inspected.write(pool.token_b.vault, replace(vault, data=bytes(frozen)))
        verdict, found = await only_pool(inspected, load_pools=lambda: [damm])
    assert verdict is CheckResult.FAILED
    assert "its swap fails when it is simulated: " in found


async def test_a_pool_that_quotes_one_way_only_is_a_warning() -> None:
    async with inspected_chain() as inspected:
        [damm] = listed_pools(inspected.local, [METEORA_DAMM_V2])
        account = inspected.local.account(damm.address)
        pool = DammV2Account.decode(account.data)
        # At the lower end of its range it has nothing to pay for SOL.
        data = replace(pool, sqrt_min_price=pool.sqrt_price).encode()
        inspected.write(damm.address, replace(account, data=data))
        verdict, found = await only_pool(inspected, load_pools=lambda: [damm])
    assert (verdict, "SOL to USDC is not quoted" in found) == (CheckResult.WARNING, True)


async def test_the_calls_that_the_pools_take_are_compared_with_the_budget() -> None:
    async with inspected_chain(";rps=3") as inspected:
        low = await inspected.check("budget")
    async with inspected_chain(";rps=30") as inspected:
        enough = await inspected.check("budget")
    assert (low.result, enough.result) == (CheckResult.WARNING, CheckResult.OK)
    assert low.found.endswith("take about 5 calls per second, and the endpoints may be sent 3")


async def test_a_part_that_cannot_be_checked_does_not_hide_the_others() -> None:
    async with inspected_chain() as inspected:
        inspected.served.arm("error", times=None, method="getMinimumBalanceForRentExemption", code=-32602)
        checks = await inspected.checks()
    failed = [each for each in checks if each.result is CheckResult.FAILED]
    assert [each.name for each in failed] == ["sol", "pool"]
    assert all(each.found.startswith("could not be checked: ") for each in failed)
    assert checks[-1].name == "calls"


async def test_the_pools_alone() -> None:
    async with inspected_chain() as inspected, inspected.inspector() as inspector:
        names = [each.name async for each in inspector.pool_checks()]
    assert names == ["program"] * 4 + ["pool"] * 4 + ["budget"]
