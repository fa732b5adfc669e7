"""The four doubles: the codes of their programs, and the accounts that a swap writes.

Sources of the codes, each in a program's error.rs and the swap's handler: raydium-io/raydium-cp-swap
programs/cp-swap/src; raydium-io/raydium-amm program/src; MeteoraAg/damm-v2 programs/cp-amm/src; and
MeteoraAg/dlmm-sdk idls/dlmm.json. No recorded transaction names a wrong account: those codes follow from the
constraints in the sources.

The compute units are those of recorded transactions, rounded up.
"""

from collections.abc import Mapping

from solders.pubkey import Pubkey

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.errors import (
    AmountTooSmallError,
    BinArrayMissingError,
    InsufficientLiquidityError,
    PoolDisabledError,
    PoolNotOpenError,
)
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_dlmm_account import BinArrayAccount, LbPairAccount
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.solana.programs.meteora_dlmm import arrays_ahead, bin_array_address
from service.chains.solana.programs.pool import OnChainPool
from service.chains.solana.programs.registry import ProgramIds
from service.sandbox.doubles.double import (
    TOO_FEW_ACCOUNTS,
    WRONG_ADDRESS,
    WRONG_CONSTRAINT,
    WRONG_PROGRAM,
    WRONG_RELATION,
    WRONG_SEEDS,
    Accounts,
    Call,
    Double,
    Reasons,
)
from service.sandbox.doubles.staged import Staged


def _cpmm_written(pool: OnChainPool, accounts: Accounts, after: PoolState) -> Accounts:
    key = pool.addresses.pool
    if not isinstance(after, CpmmPool):
        raise TypeError(type(after))
    return {key: CpmmPoolAccount.decode(accounts[key]).written(after).encode()}


def _amm_v4_written(pool: OnChainPool, accounts: Accounts, after: PoolState) -> Accounts:
    key = pool.addresses.pool
    if not isinstance(after, AmmV4Pool):
        raise TypeError(type(after))
    return {key: AmmV4Account.decode(accounts[key]).written(after).encode()}


def _damm_v2_written(pool: OnChainPool, accounts: Accounts, after: PoolState) -> Accounts:
    key = pool.addresses.pool
    if not isinstance(after, DammV2Pool):
        raise TypeError(type(after))
    return {key: DammV2Account.decode(accounts[key]).written(after).encode()}


def _dlmm_written(pool: OnChainPool, accounts: Accounts, after: PoolState) -> Accounts:
    key, program = pool.addresses.pool, pool.addresses.program
    if not isinstance(after, DlmmPool):
        raise TypeError(type(after))
    pair = LbPairAccount.decode(accounts[key])
    written = {key: pair.written(after).encode()}
    first, last = sorted((pair.active_id, after.active_id))
    for index in range(first // BINS_PER_ARRAY, last // BINS_PER_ARRAY + 1):
        # One without liquidity was passed over, and is not named.
        if index in after.arrays:
            address = bin_array_address(program, key, index)
            account = BinArrayAccount.decode(accounts[address])
            written[address] = account.written(after.arrays[index]).encode()
    return written


def _dlmm_readable(call: Call, accounts: Accounts, staged: Staged) -> Accounts:
    """Return the pair and the bin arrays that are named in the sequence in which the swap reaches them.

    The program takes the next array from the rest of the list, so one that is named too early is not found.
    """
    key, program = call.pool.addresses.pool, call.pool.addresses.program
    # Without its arrays: which of them have liquidity is in the pair and its extension.
    found = {address: data for address, data in accounts.items() if len(data) != BinArrayAccount.SIZE}
    bare = call.pool.state(found)
    if not isinstance(bare, DlmmPool):
        raise TypeError(type(bare))
    named = {address: place for place, address in reversed(list(enumerate(call.swap.bin_arrays)))}
    last = -1
    for index in arrays_ahead(bare, call.direction):
        address = bin_array_address(program, key, index)
        place, data = named.get(address, -1), staged.data(address)
        if place <= last or not data:
            break
        found[address] = data
        last = place
    return found


_CPMM = Double(
    accounts=13,
    pool_at=3,
    authority_at=1,
    wrong_account={
        0: WRONG_ADDRESS,
        1: WRONG_SEEDS,
        2: WRONG_ADDRESS,
        3: WRONG_ADDRESS,
        4: WRONG_ADDRESS,
        5: WRONG_ADDRESS,
        6: WRONG_CONSTRAINT,
        7: WRONG_CONSTRAINT,
        8: WRONG_PROGRAM,
        9: WRONG_PROGRAM,
        10: WRONG_ADDRESS,
        11: WRONG_ADDRESS,
        12: WRONG_ADDRESS,
    },
    derived=(1,),
    reasons=Reasons(slippage=6005),
    refusals={
        AmountTooSmallError.code: 2505,
        InsufficientLiquidityError.code: 6002,
        PoolDisabledError.code: 6000,
        PoolNotOpenError.code: 6000,
    },
    written=_cpmm_written,
    calls=2,
    units=33_500,
    by_vaults=True,
)

_AMM_V4 = Double(
    accounts=18,
    pool_at=1,
    authority_at=2,
    # The market's accounts are not touched by a pool without an order book, so any may stand there.
    wrong_account={0: 38, 1: 27, 2: 1, 3: 10, 4: 13, 5: 4, 6: 5, 7: 12, 8: 11, 15: 42, 16: 42, 17: 21},
    derived=(0, 2),
    reasons=Reasons(
        slippage=30,
        not_signer=21,
        not_writable=14,
        no_swap="InvalidInstructionData",
        too_few_accounts=24,
        not_initialized=3,
        wrong_owner=27,
        wrong_data=27,
    ),
    refusals={
        # The limit is checked before zero, and a limit is at least one.
        AmountTooSmallError.code: 30,
        InsufficientLiquidityError.code: 40,
        PoolDisabledError.code: 22,
        PoolNotOpenError.code: 22,
    },
    written=_amm_v4_written,
    calls=2,
    units=23_400,
    checks_balance=40,
    names_mints=False,
)

_DLMM = Double(
    accounts=16,
    pool_at=0,
    authority_at=0,
    # Places 1 and 9 are optional accounts.
    wrong_account={
        0: WRONG_ADDRESS,
        2: WRONG_RELATION,
        3: WRONG_RELATION,
        4: WRONG_ADDRESS,
        5: WRONG_ADDRESS,
        6: WRONG_RELATION,
        7: WRONG_RELATION,
        8: WRONG_RELATION,
        10: WRONG_ADDRESS,
        11: WRONG_PROGRAM,
        12: WRONG_PROGRAM,
        13: WRONG_PROGRAM,
        14: WRONG_SEEDS,
        15: WRONG_ADDRESS,
    },
    derived=(13, 14, 15),
    reasons=Reasons(slippage=6003),
    refusals={
        AmountTooSmallError.code: 6039,
        InsufficientLiquidityError.code: 6036,
        PoolDisabledError.code: 6042,
        PoolNotOpenError.code: 6042,
        BinArrayMissingError.code: TOO_FEW_ACCOUNTS,
    },
    written=_dlmm_written,
    calls=3,
    units=42_600,
    units_per_bin=5_500,
    readable=_dlmm_readable,
)

_DAMM_V2 = Double(
    accounts=14,
    pool_at=1,
    authority_at=0,
    # Place 11 is the referral's account: the double pays no referrer, so only its absence is accepted.
    wrong_account={
        0: WRONG_ADDRESS,
        1: WRONG_ADDRESS,
        2: WRONG_ADDRESS,
        3: WRONG_ADDRESS,
        4: WRONG_RELATION,
        5: WRONG_RELATION,
        6: WRONG_RELATION,
        7: WRONG_RELATION,
        8: WRONG_ADDRESS,
        9: WRONG_PROGRAM,
        10: WRONG_PROGRAM,
        11: WRONG_ADDRESS,
        12: WRONG_SEEDS,
        13: WRONG_ADDRESS,
    },
    derived=(0, 12, 13),
    reasons=Reasons(slippage=6002),
    refusals={
        InsufficientLiquidityError.code: 6015,
        PoolDisabledError.code: 6003,
        PoolNotOpenError.code: 6003,
    },
    written=_damm_v2_written,
    calls=3,
    units=15_600,
)


def doubles_of(ids: ProgramIds) -> Mapping[Pubkey, Double]:
    """Return the doubles by the addresses of their programs."""
    return {
        ids.raydium_cpmm: _CPMM,
        ids.raydium_amm_v4: _AMM_V4,
        ids.meteora_dlmm: _DLMM,
        ids.meteora_damm_v2: _DAMM_V2,
    }
