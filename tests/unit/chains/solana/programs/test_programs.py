"""Pools and instructions of the four programs, beyond what was executed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey

from service.amm import ChainTime, Direction, DlmmPool, StateIncompleteError
from service.amm.errors import MalformedStateError
from service.amm.meteora_dlmm_account import BinArrayAccount, BitmapExtensionAccount, LbPairAccount
from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM, WRAPPED_SOL
from service.chains.solana.programs.meteora_dlmm import (
    DlmmOnChain,
    DlmmProgram,
    arrays_ahead,
    arrays_to_carry,
    bin_array_address,
)
from service.chains.solana.programs.pool import LegSwap, OnChainPool, UnknownInstructionError, UserAccounts
from service.chains.solana.programs.registry import MAINNET
from service.domain.quote import SwapMode
from tests.support.executed import PROGRAMS, USDC, WALLET, executed
from tests.support.solana_pools import FOUR_LEGS, elsewhere, made_up, recorded

ALL = [MAINNET.raydium_cpmm, MAINNET.raydium_amm_v4, MAINNET.meteora_dlmm, MAINNET.meteora_damm_v2]
IDS = ["cpmm", "amm_v4", "dlmm", "damm_v2"]
CASE = executed()[FOUR_LEGS]
NOW = ChainTime(1_800_000_000)
USER = UserAccounts(WALLET.pubkey(), made_up("source"), made_up("destination"))
TWO_ARRAYS = executed()["dlmm_two_arrays_buy"]


def swaps() -> Iterator[LegSwap]:
    for mode in SwapMode:
        for way in Direction:
            yield LegSwap(way, mode, 12_345, 678)


@pytest.mark.parametrize("program", ALL, ids=IDS)
def test_what_is_built_is_decoded_again(program: Pubkey) -> None:
    pool = recorded()[program].pool
    for swap in swaps():
        built = pool.instruction(swap, USER)
        accounts = [meta.pubkey for meta in built.accounts]
        decoded = PROGRAMS.decode(program, accounts, built.data)
        assert decoded is not None
        assert (decoded.mode, decoded.amount_in, decoded.amount_out) == (swap.mode, 12_345, 678)
        assert (decoded.pool, decoded.user) == (pool.addresses.pool, USER)
        assert [meta.pubkey for meta in built.accounts if meta.is_signer] == [WALLET.pubkey()]


@pytest.mark.parametrize("program", ALL, ids=IDS)
def test_an_instruction_that_is_not_such_a_swap_is_refused(program: Pubkey) -> None:
    built = recorded()[program].pool.instruction(next(swaps()), USER)
    accounts = [meta.pubkey for meta in built.accounts]
    wrong: list[tuple[list[Pubkey], bytes]] = [
        (accounts, b""),
        (accounts, b"\xff" + built.data[1:]),
        (accounts, built.data + b"\0"),
        (accounts, built.data[:-1]),
        (accounts[:12], built.data),
        ([made_up("another")] * len(accounts), built.data),
    ]
    for keys, data in wrong:
        with pytest.raises(UnknownInstructionError):
            PROGRAMS.decode(program, keys, data)


@pytest.mark.parametrize(
    ("program", "tail", "reason"),
    [
        (MAINNET.meteora_damm_v2, b"\x01", "mode 1"),
        (MAINNET.meteora_dlmm, b"\x01\0\0\0", "transfer hooks"),
    ],
)
def test_partial_fills_and_transfer_hooks_are_refused(program: Pubkey, tail: bytes, reason: str) -> None:
    built = recorded()[program].pool.instruction(next(swaps()), USER)
    accounts = [meta.pubkey for meta in built.accounts]
    with pytest.raises(UnknownInstructionError, match=reason):
        PROGRAMS.decode(program, accounts, built.data[: -len(tail)] + tail)


def test_another_program_has_no_swap() -> None:
    assert PROGRAMS.decode(TOKEN_PROGRAM, [], b"") is None


@pytest.mark.parametrize("program", ALL, ids=IDS)
def test_a_state_needs_all_of_its_accounts(program: Pubkey) -> None:
    pool = recorded()[program].pool
    needed = [key for key in pool.state_accounts() if key in CASE.data]
    assert pool.state({key: CASE.data[key] for key in needed}) == recorded()[program].state
    for missing in needed:
        data = {key: CASE.data[key] for key in needed if key != missing}
        if program == MAINNET.meteora_dlmm and missing != pool.addresses.pool:
            # Without a bin array there is a state, but no quote that reaches the array.
            state = pool.state(data)
            with pytest.raises(StateIncompleteError):
                state.quote_exact_in(Direction.A_TO_B, 10**9, NOW)
        else:
            with pytest.raises(StateIncompleteError, match=str(missing)):
                pool.state(data)


@pytest.mark.parametrize("program", ALL, ids=IDS)
def test_an_account_that_is_no_pool_of_the_program_is_refused(program: Pubkey) -> None:
    for data in (b"", bytes(165), CASE.data[USDC]):
        with pytest.raises(MalformedStateError):
            PROGRAMS.open(made_up("pool"), program, data)


def test_the_owner_decides_what_a_pool_is() -> None:
    pool = recorded()[MAINNET.raydium_cpmm].pool.addresses.pool
    with pytest.raises(MalformedStateError, match="none of the programs"):
        PROGRAMS.open(pool, TOKEN_PROGRAM, CASE.data[pool])


def test_the_programs_of_a_token_are_those_of_its_mint() -> None:
    data = CASE.data[recorded()[MAINNET.raydium_cpmm].pool.addresses.pool]
    account = replace(CpmmPoolAccount.decode(data), token_program_1=bytes(TOKEN_2022_PROGRAM))
    opened = PROGRAMS.open(made_up("pool"), MAINNET.raydium_cpmm, account.encode())
    assert [side.program for side in opened.addresses.sides(Direction.B_TO_A)] == [
        TOKEN_2022_PROGRAM,
        TOKEN_PROGRAM,
    ]
    dlmm = MAINNET.meteora_dlmm
    pair = LbPairAccount.decode(CASE.data[recorded()[dlmm].pool.addresses.pool])
    marked = PROGRAMS.open(made_up("pair"), dlmm, replace(pair, token_program_flag_x=1).encode())
    assert marked.addresses.token_a.program == TOKEN_2022_PROGRAM
    with pytest.raises(MalformedStateError, match="flag 2"):
        PROGRAMS.open(made_up("pair"), dlmm, replace(pair, token_program_flag_y=2).encode())


# --- Bin arrays


def dlmm_state(liquid: tuple[int, ...], active: int) -> DlmmPool:
    state = recorded()[MAINNET.meteora_dlmm].state
    assert isinstance(state, DlmmPool)
    return replace(state, liquid_arrays=liquid, active_id=active)


@pytest.mark.parametrize(
    ("active", "way", "ahead"),
    [
        (-1, Direction.A_TO_B, (-1, -3)),
        (-1, Direction.B_TO_A, (-1, 0, 5)),
        # No liquidity in the active array: the swap begins in the next one.
        (140, Direction.A_TO_B, (0, -1, -3)),
        (140, Direction.B_TO_A, (5,)),
        (70 * 6, Direction.B_TO_A, ()),
    ],
)
def test_arrays_come_in_the_sequence_of_the_walk(active: int, way: Direction, ahead: tuple[int, ...]) -> None:
    assert arrays_ahead(dlmm_state((-3, -1, 0, 5), active), way) == ahead


@pytest.mark.parametrize(
    ("end", "way", "spare", "carried"),
    [
        (-1, Direction.A_TO_B, 0, (-1,)),
        (-1, Direction.A_TO_B, 1, (-1, -3)),
        (-1, Direction.A_TO_B, 9, (-1, -3)),
        (-200, Direction.A_TO_B, 0, (-1, -3)),
        (10, Direction.B_TO_A, 0, (-1, 0)),
        (10, Direction.B_TO_A, 1, (-1, 0, 5)),
    ],
)
def test_a_swap_carries_the_arrays_of_its_quote_and_some_more(
    end: int, way: Direction, spare: int, carried: tuple[int, ...]
) -> None:
    before = dlmm_state((-3, -1, 0, 5), -1)
    assert arrays_to_carry(before, replace(before, active_id=end), way, spare) == carried


def test_a_recorded_swap_over_two_arrays_carries_both() -> None:
    pool = TWO_ARRAYS.pools[MAINNET.meteora_dlmm]
    before = pool.state(TWO_ARRAYS.data)
    assert isinstance(before, DlmmPool)
    after = before.quote_exact_in(Direction.B_TO_A, 100_000 * 10**6, TWO_ARRAYS.now).next_state()
    assert arrays_to_carry(before, after, Direction.B_TO_A, spare=1) == (-28, -27)


def opened(active_id: int, bitmap: bytes | None = None, extension: bytes | None = None) -> DlmmOnChain:
    pair = LbPairAccount.decode(CASE.data[recorded()[MAINNET.meteora_dlmm].pool.addresses.pool])
    data = replace(pair, active_id=active_id, bitmap=pair.bitmap if bitmap is None else bitmap).encode()
    return DlmmProgram(MAINNET.meteora_dlmm).open(made_up("pair"), data, extension)


def third_account(pool: OnChainPool, arrays: tuple[int, ...]) -> Pubkey:
    """Return the account in the place of the bitmap's extension."""
    swap = LegSwap(Direction.A_TO_B, SwapMode.EXACT_IN, 1, 1, arrays)
    return pool.instruction(swap, USER).accounts[1].pubkey


def test_the_extension_of_the_bitmap_is_named_where_it_exists_or_is_needed() -> None:
    plain = opened(-1_900)
    assert third_account(plain, (511, -512)) == MAINNET.meteora_dlmm
    assert third_account(plain, (512,)) == third_account(plain, (-513,)) == plain.extension
    bitmap = bytearray(768)
    bitmap[0] = 1
    extension = BitmapExtensionAccount(bytes(made_up("pair")), bytes(bitmap)).encode()
    far = opened(512 * 70, extension=extension)
    assert third_account(far, ()) == far.extension
    assert far.liquid == (-28, -27, 512)
    assert far.state_accounts()[:2] == (made_up("pair"), far.extension)


def test_the_nearest_arrays_are_read() -> None:
    bitmap = bytearray(128)
    for index in range(-5, 6):
        bitmap[(512 + index) // 8] |= 1 << (512 + index) % 8
    pool = opened(35, bytes(bitmap))
    expected = [bin_array_address(MAINNET.meteora_dlmm, made_up("pair"), index) for index in range(-3, 4)]
    assert list(pool.state_accounts()[2:]) == expected
    gap = opened(70 * 7, bytes(bitmap))
    assert len(gap.state_accounts()) == 2 + 3


def test_a_bin_array_of_another_pool_is_refused() -> None:
    pool = recorded()[MAINNET.meteora_dlmm].pool
    [key] = [key for key in pool.state_accounts() if key in CASE.data and key != pool.addresses.pool]
    array = BinArrayAccount.decode(CASE.data[key])
    for wrong in (replace(array, index=5), replace(array, lb_pair=bytes(WRAPPED_SOL))):
        with pytest.raises(MalformedStateError, match="bin array"):
            pool.state({**CASE.data, key: wrong.encode()})


def test_made_up_pools_are_like_real_ones() -> None:
    for program in ALL:
        pool = elsewhere(program, "pool", USDC, WRAPPED_SOL)
        assert (pool.addresses.token_a.mint, pool.addresses.token_b.mint) == (USDC, WRAPPED_SOL)
