"""The most that a transaction may take from the wallet."""

from solders.pubkey import Pubkey

from service.chains.paper.pool_json import METEORA_DLMM, RAYDIUM_AMM_V4, RAYDIUM_CPMM
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.payment import payment_of
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.domain.tokens import TOKENS
from tests.support.local_chain import SOL, LocalChain
from tests.support.solana_venue import venue_desk


def test_parallel_legs_add_up() -> None:
    local = LocalChain()
    legs = [local.leg(program, SOL, 1) for program in (RAYDIUM_CPMM, RAYDIUM_AMM_V4, METEORA_DLMM)]
    payment = payment_of(bytes(local.swap(*legs)), AmmPrograms(MAINNET))
    assert payment == (None, 3 * SOL)


def test_what_buys_sol_pays_from_the_account_of_its_token() -> None:
    local = LocalChain()
    raw = bytes(local.swap(local.leg(RAYDIUM_CPMM, 10**7, 1, sells_sol=False)))
    payment = payment_of(raw, AmmPrograms(MAINNET))
    usdc = Pubkey.from_string(TOKENS["USDC"].mint)
    assert payment == (associated_token_account(local.wallet.pubkey(), usdc, TOKEN_PROGRAM), 10**7)


async def test_what_second_legs_sell_is_not_the_wallets() -> None:
    async with venue_desk() as desk:
        route = (await desk.quote("JUP", "BONK", 10**9)).route
        signed = await desk.signed(route)
        payment = payment_of(signed.raw, AmmPrograms(MAINNET))
        assert (payment.source, payment.amount) == (desk.account("JUP"), 10**9)
