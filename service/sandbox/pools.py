"""Pools of the paper market as accounts of their programs."""

import hashlib
from dataclasses import replace
from typing import NamedTuple

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool
from service.amm.account import Account
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_dlmm_account import BIN, PAIR_BITMAP_SIZE, BinArrayAccount, LbPairAccount
from service.amm.meteora_dlmm_bins import BIN_ID_MAX, BINS_PER_ARRAY, BinArray
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_cpmm_account import CpmmConfigAccount, CpmmPoolAccount
from service.chains.paper.pool import PaperPool
from service.chains.solana.addresses import TOKEN_PROGRAM, derived
from service.chains.solana.programs.meteora_dlmm import bin_array_address
from service.chains.solana.programs.registry import ProgramIds
from service.domain.tokens import TOKENS
from service.sandbox.accounts import StoredAccount, held_account, rent_exempt

_OPENBOOK = Pubkey.from_string("srmqPvymJeFKQ4zGQed1GFppgkRHL9kaELCbyksJtPX")
_OBSERVATION_BYTES, _ORACLE_BYTES = 4_075, 3_232
_BIN_BYTES = BINS_PER_ARRAY * BIN.size


class Address:
    """Addresses and keys of a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, name: str) -> Pubkey:
        """Return the address of a name."""
        return Pubkey.from_bytes(self._digest(name))

    def keypair(self, name: str) -> Keypair:
        """Return the keys of a name."""
        return Keypair.from_seed(self._digest(name))

    def _digest(self, name: str) -> bytes:
        return hashlib.sha256(f"sandbox/{self._seed}/{name}".encode()).digest()


class PoolAccounts(NamedTuple):
    """A pool's address, and all its accounts."""

    pool: Pubkey
    accounts: dict[Pubkey, StoredAccount]


class _Side(NamedTuple):
    mint: bytes
    decimals: int
    vault: bytes


def pool_accounts(pool: PaperPool, address: Address, ids: ProgramIds) -> PoolAccounts:
    """Return a pool's accounts.

    Raises:
        TypeError: The pool's program is unknown.
    """
    key = address.of(pool.id)
    a, b = (_side(symbol, address.of(f"{pool.id}/{symbol}")) for symbol in pool.pair)
    amounts = {a.vault: pool.vault_a, b.vault: pool.vault_b}
    match pool.state:
        case CpmmPool():
            accounts, authority = _cpmm(pool.state, key, (a, b), ids, address)
        case AmmV4Pool():
            accounts, authority = _amm_v4(pool.state, key, (a, b), ids, address)
        case DlmmPool():
            accounts, authority = _dlmm(pool.state, key, (a, b), ids)
        case DammV2Pool():
            accounts, authority = _damm_v2(pool.state, key, (a, b), ids)
        case _:
            raise TypeError(type(pool.state))
    for side in a, b:
        mint, amount = Pubkey.from_bytes(side.mint), amounts[side.vault]
        accounts[Pubkey.from_bytes(side.vault)] = held_account(mint, authority, amount)
    return PoolAccounts(key, accounts)


def _side(symbol: str, vault: Pubkey) -> _Side:
    token = TOKENS[symbol]
    return _Side(bytes(Pubkey.from_string(token.mint)), token.decimals, bytes(vault))


def _owned(program: Pubkey, account: Account) -> StoredAccount:
    return StoredAccount(rent_exempt(account.SIZE), program, account.encode())


def _cpmm(
    state: CpmmPool, key: Pubkey, sides: tuple[_Side, _Side], ids: ProgramIds, address: Address
) -> tuple[dict[Pubkey, StoredAccount], Pubkey]:
    program = ids.raydium_cpmm
    # The program's pools have their tokens in the sequence of the mints' bytes.
    first, second = sorted(sides)
    config = CpmmConfigAccount(
        index=state.trade_fee_rate,
        trade_fee_rate=state.trade_fee_rate,
        protocol_fee_rate=state.protocol_fee_rate,
        fund_fee_rate=state.fund_fee_rate,
        creator_fee_rate=state.creator_fee_rate,
    )
    config_key = derived(program, b"amm_config", config.index.to_bytes(2, "big"))
    observation = derived(program, b"observation", bytes(key))
    pool = CpmmPoolAccount(
        amm_config=bytes(config_key),
        pool_creator=bytes(address.of("creator")),
        vault_0=first.vault,
        vault_1=second.vault,
        mint_0=first.mint,
        mint_1=second.mint,
        token_program_0=bytes(TOKEN_PROGRAM),
        token_program_1=bytes(TOKEN_PROGRAM),
        observation=bytes(observation),
        status=state.status,
        decimals_0=first.decimals,
        decimals_1=second.decimals,
        open_time=state.open_time_s,
        creator_fee_on=state.creator_fee_on,
        enable_creator_fee=int(state.enable_creator_fee),
    )
    accounts = {
        key: _owned(program, pool),
        config_key: _owned(program, config),
        observation: StoredAccount(rent_exempt(_OBSERVATION_BYTES), program, bytes(_OBSERVATION_BYTES)),
    }
    return accounts, derived(program, b"vault_and_lp_mint_auth_seed")


def _amm_v4(
    state: AmmV4Pool, key: Pubkey, sides: tuple[_Side, _Side], ids: ProgramIds, address: Address
) -> tuple[dict[Pubkey, StoredAccount], Pubkey]:
    coin, pc = sides
    account = AmmV4Account(
        status=state.status,
        coin_decimals=coin.decimals,
        pc_decimals=pc.decimals,
        swap_fee_numerator=state.fee_numerator,
        swap_fee_denominator=state.fee_denominator,
        need_take_pnl_coin=state.need_take_pnl_coin,
        need_take_pnl_pc=state.need_take_pnl_pc,
        open_time=state.open_time_s,
        coin_vault=coin.vault,
        pc_vault=pc.vault,
        coin_mint=coin.mint,
        pc_mint=pc.mint,
        # The accounts of an order book, which pools of this status do not touch, do not exist.
        open_orders=bytes(address.of(f"{key}/open orders")),
        market=bytes(address.of(f"{key}/market")),
        market_program=bytes(_OPENBOOK),
        target_orders=bytes(address.of(f"{key}/target orders")),
    )
    program = ids.raydium_amm_v4
    return {key: _owned(program, account)}, derived(program, b"amm authority")


def _dlmm(
    state: DlmmPool, key: Pubkey, sides: tuple[_Side, _Side], ids: ProgramIds
) -> tuple[dict[Pubkey, StoredAccount], Pubkey]:
    program, parameters = ids.meteora_dlmm, state.parameters
    x, y = sides
    oracle = derived(program, b"oracle", bytes(key))
    bitmap = sum(1 << index + PAIR_BITMAP_SIZE for index in state.liquid_arrays)
    pair = LbPairAccount(
        base_factor=parameters.base_factor,
        filter_period=parameters.filter_period_s,
        decay_period=parameters.decay_period_s,
        reduction_factor=parameters.reduction_factor,
        variable_fee_control=parameters.variable_fee_control,
        max_volatility_accumulator=parameters.max_volatility,
        min_bin_id=-BIN_ID_MAX,
        max_bin_id=BIN_ID_MAX,
        protocol_share=parameters.protocol_share,
        base_fee_power=parameters.base_fee_power,
        function_type=parameters.function_type,
        collect_fee_mode=parameters.collect_fee_mode,
        bin_step=parameters.bin_step,
        status=state.status,
        pair_type=state.pair_type,
        activation_type=state.activation_type,
        activation_point=state.activation_point,
        mint_x=x.mint,
        mint_y=y.mint,
        reserve_x=x.vault,
        reserve_y=y.vault,
        oracle=bytes(oracle),
        bitmap=bitmap.to_bytes(2 * PAIR_BITMAP_SIZE // 8, "little"),
    ).written(state)
    accounts = {
        key: _owned(program, pair),
        oracle: StoredAccount(rent_exempt(_ORACLE_BYTES), program, bytes(_ORACLE_BYTES)),
    }
    for index, array in state.arrays.items():
        accounts[bin_array_address(program, key, index)] = _owned(program, _bin_array(key, array))
    return accounts, key


def _bin_array(pair: Pubkey, array: BinArray) -> BinArrayAccount:
    empty = BinArrayAccount(index=array.index, version=1, lb_pair=bytes(pair), bins=bytes(_BIN_BYTES))
    return empty.written(array)


def _damm_v2(
    state: DammV2Pool, key: Pubkey, sides: tuple[_Side, _Side], ids: ProgramIds
) -> tuple[dict[Pubkey, StoredAccount], Pubkey]:
    program, base, a, b = ids.meteora_damm_v2, state.base_fee, *sides
    account = DammV2Account(
        cliff_fee_numerator=base.cliff_rate,
        base_fee_mode=base.mode,
        number_of_period=base.periods,
        period_frequency=base.period_frequency,
        reduction_factor=base.reduction,
        protocol_fee_percent=state.protocol_fee_percent,
        compounding_fee_bps=state.compounding_fee_bps,
        initial_sqrt_price=state.sqrt_price,
        mint_a=a.mint,
        mint_b=b.mint,
        vault_a=a.vault,
        vault_b=b.vault,
        liquidity=state.liquidity,
        sqrt_min_price=state.sqrt_min_price,
        sqrt_max_price=state.sqrt_max_price,
        activation_point=state.activation_point,
        activation_type=state.activation_type,
        status=state.status,
        collect_fee_mode=state.collect_fee_mode,
        fee_version=state.fee_version,
    )
    fee = state.dynamic_fee
    if fee is not None:
        account = replace(
            account,
            dynamic_initialized=1,
            dynamic_max_volatility=fee.max_volatility,
            dynamic_variable_fee_control=fee.variable_fee_control,
            dynamic_bin_step=fee.bin_step,
            dynamic_filter_period=fee.filter_period_s,
            dynamic_decay_period=fee.decay_period_s,
            dynamic_reduction_factor=fee.reduction_factor,
            dynamic_bin_step_q64=fee.bin_step_q64,
        )
    return {key: _owned(program, account.written(state))}, derived(program, b"pool_authority")
