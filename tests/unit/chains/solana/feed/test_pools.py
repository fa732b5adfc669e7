"""A listed pool from its accounts: when it can be quoted, and when it no longer can."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from solders.pubkey import Pubkey

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.meteora_dlmm_account import BitmapExtensionAccount, LbPairAccount
from service.chains.solana.addresses import derived
from service.chains.solana.feed.accounts import AccountsRead, ClockSysvar, OwnedData
from service.chains.solana.feed.pools import (
    FeedPool,
    ListedPool,
    Reading,
    TokenOf,
    UnreadablePoolError,
    view_of,
)
from service.chains.solana.programs.meteora_dlmm import DlmmOnChain
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.chains.venue import PoolRef
from service.domain.quote import Dex
from service.domain.tokens import find_token
from tests.support.local_chain import LocalChain

PROGRAMS = AmmPrograms(MAINNET)

Accounts = dict[Pubkey, OwnedData]


@pytest.fixture
def accounts() -> Accounts:
    chain = LocalChain().chain
    return {key: OwnedData(found.owner, found.data) for key, found in chain.genesis.accounts.items()}


def listed(program: str = "meteora_dlmm") -> FeedPool:
    pool = LocalChain().pool(program).addresses
    return FeedPool(ListedPool(pool.program, pool.pool), PROGRAMS, find_token, lambda _: None)


def read(pool: FeedPool, accounts: Mapping[Pubkey, OwnedData], slot: int = 1) -> bool:
    """Read the accounts that a pool wants next."""
    keys = pool.keys
    found = {key: accounts[key] for key in keys if key in accounts}
    return pool.accept(AccountsRead(ClockSysvar(slot, 0, 1_000), found), keys)


def opened(pool: FeedPool, accounts: Mapping[Pubkey, OwnedData]) -> FeedPool:
    assert not read(pool, accounts)
    assert read(pool, accounts)
    assert pool.ref is not None
    return pool


@pytest.mark.parametrize("program", ["raydium_cpmm", "raydium_amm_v4", "meteora_dlmm", "meteora_damm_v2"])
def test_a_pool_is_known_after_its_account_and_what_that_names_were_read(
    accounts: Accounts, program: str
) -> None:
    pool = listed(program)
    assert len(pool.keys) == 1
    assert not read(pool, accounts)
    assert not pool.tokens
    # The mints are read once.
    with_mints = len(pool.keys)
    assert read(pool, accounts)
    assert len(pool.keys) == with_mints - 2
    assert pool.ref is not None
    assert {pool.ref.token_a, pool.ref.token_b} == {"SOL", "USDC"}
    assert not read(pool, accounts)


def test_a_newer_slot_with_the_same_accounts_only_moves_the_slot(accounts: Accounts) -> None:
    pool = opened(listed(), accounts)
    reading = pool.reading
    assert not read(pool, accounts, slot=9)
    assert pool.slot == 9
    assert pool.reading is reading
    assert not read(pool, {}, slot=8)
    assert pool.slot == 9


def test_why_a_pool_is_not_quoted(accounts: Accounts) -> None:
    def refusal(changed: Accounts, token_of: TokenOf = find_token) -> str:
        pool = listed()
        pool._token_of = token_of
        try:
            opened(pool, {**accounts, **changed})
        except UnreadablePoolError as error:
            return str(error)
        return "quoted"

    key = LocalChain().pool("meteora_dlmm").addresses
    data = accounts[key.pool].data
    mint = accounts[key.token_b.mint]
    assert refusal({key.pool: OwnedData(MAINNET.raydium_cpmm, data)}).startswith("it belongs to CPMM")
    assert "LbPair" in refusal({key.pool: OwnedData(key.program, bytes(len(data)))})
    assert "not one that may be traded" in refusal({}, lambda _: None)
    wrong = bytearray(mint.data)
    wrong[44] = 9
    assert refusal({key.token_b.mint: OwnedData(mint.owner, bytes(wrong))}) == (
        "USDC has 9 decimals on the chain, not 6"
    )
    closed = {each: found for each, found in accounts.items() if each != key.token_a.vault}
    pool = listed()
    assert not read(pool, closed)
    with pytest.raises(UnreadablePoolError, match="was not loaded"):
        read(pool, closed)
    gone = {each: found for each, found in accounts.items() if each != key.pool}
    with pytest.raises(UnreadablePoolError, match="it does not exist"):
        read(listed(), gone)


def test_a_pool_that_was_closed_is_forgotten_and_may_come_back(accounts: Accounts) -> None:
    pool = opened(listed(), accounts)
    address = pool.keys[0]
    with pytest.raises(UnreadablePoolError):
        read(pool, {key: found for key, found in accounts.items() if key != address}, slot=2)
    pool.forget()
    assert (pool.ref, pool.reading, pool.keys) == (None, None, (address,))
    assert not read(pool, accounts, slot=3)
    assert read(pool, accounts, slot=3)
    assert pool.ref is not None


def test_the_arrays_follow_the_price(accounts: Accounts) -> None:
    pool = opened(listed(), accounts)
    [key] = pool.keys[:1]
    pair = LbPairAccount.decode(accounts[key].data)
    far = bytearray(128)
    for index in range(100, 120):
        far[(index + 512) // 8] |= 1 << (index + 512) % 8
    moved = replace(pair, active_id=110 * 70, bitmap=bytes(far)).encode()
    before = pool.keys
    assert read(pool, {**accounts, key: OwnedData(accounts[key].owner, moved)}, slot=2)
    assert not set(pool.keys) <= set(before)
    assert pool.reading is not None
    assert isinstance(pool.reading.state, DlmmPool)
    assert pool.reading.state.active_id == 7_700


def test_the_extension_of_a_bitmap_is_read_and_its_arrays_with_it(accounts: Accounts) -> None:
    pool = listed()
    [key] = pool.keys
    address = derived(MAINNET.meteora_dlmm, b"bitmap", bytes(key))
    bitmap = bytearray(768)
    bitmap[0] = 1
    extension = BitmapExtensionAccount(bytes(key), bytes(bitmap)).encode()
    pair = replace(LbPairAccount.decode(accounts[key].data), active_id=512 * 70).encode()
    changed = {
        **accounts,
        key: OwnedData(MAINNET.meteora_dlmm, pair),
        address: OwnedData(MAINNET.meteora_dlmm, extension),
    }
    opened(pool, changed)
    assert isinstance(pool.opened, DlmmOnChain)
    assert pool.opened.extended
    assert 512 in pool.opened.liquid
    # The far array was not known before the extension was read.
    wanted = derived(MAINNET.meteora_dlmm, b"bin_array", bytes(key), (512).to_bytes(8, "little", signed=True))
    assert wanted in pool.keys


def test_an_array_that_was_missed_is_wanted_and_only_the_last_eight_are(accounts: Accounts) -> None:
    told: list[FeedPool] = []
    pool = opened(listed(), accounts)
    pool._on_missing = told.append
    assert pool.reading is not None
    state = pool.reading.state
    assert isinstance(state, DlmmPool)
    before = len(pool.keys)
    # One that has no liquidity is not missing.
    assert state.arrays.get(400) is None
    assert (told, len(pool.keys)) == ([], before)
    for index in range(20):
        pool._miss_array(index)
        pool._miss_array(index)
    assert len(told) == 20
    assert len(pool.keys) == before + 8


def test_a_pool_is_shown_with_the_time_of_its_opening(accounts: Accounts) -> None:
    def shown(state: PoolState) -> float:
        ref, clock = PoolRef("p", Dex.METEORA, "SOL", "USDC"), ClockSysvar(50, 0, 1_000)
        return view_of(ref, Reading(state, 1, 1, {}), "a program", clock, 200).opened_at

    states = {}
    for program in "raydium_cpmm", "raydium_amm_v4", "meteora_dlmm", "meteora_damm_v2":
        reading = opened(listed(program), accounts).reading
        assert reading is not None
        states[program] = reading.state
        assert shown(reading.state) == 0
    cpmm, v4, dlmm, damm = states.values()
    assert isinstance(cpmm, CpmmPool)
    assert isinstance(v4, AmmV4Pool)
    assert isinstance(dlmm, DlmmPool)
    assert isinstance(damm, DammV2Pool)
    assert shown(replace(cpmm, open_time_s=77)) == 77
    assert shown(replace(v4, open_time_s=78)) == 78
    assert shown(replace(damm, activation_type=1, activation_point=79)) == 79
    # Half of a hundred slots of 200 ms after second 1,000; only some kinds of pairs wait for it.
    by_slot = replace(dlmm, pair_type=1, activation_type=0, activation_point=100)
    assert shown(by_slot) == 1_010
    assert shown(replace(by_slot, pair_type=0)) == 0
