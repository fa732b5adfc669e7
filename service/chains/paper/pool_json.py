"""Encodes a pool's state as JSON and decodes it, without loss.

Integers that a double cannot represent are strings: PostgreSQL would keep them as numbers, but most JSON
parsers would not. A DLMM pool's non-empty bins are flat arrays of numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar, cast

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY, EMPTY_BIN, Bin, BinArray
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.chains.paper.pool import Origin, PaperPool
from service.domain.quote import Dex

RAYDIUM_CPMM = "raydium_cpmm"
RAYDIUM_AMM_V4 = "raydium_amm_v4"
METEORA_DLMM = "meteora_dlmm"
METEORA_DAMM_V2 = "meteora_damm_v2"

PROGRAMS: dict[str, Dex] = {
    RAYDIUM_CPMM: Dex.RAYDIUM,
    RAYDIUM_AMM_V4: Dex.RAYDIUM,
    METEORA_DLMM: Dex.METEORA,
    METEORA_DAMM_V2: Dex.METEORA,
}
"""The pools' programs, and their DEXs."""

_SHORT_NAMES = {
    RAYDIUM_CPMM: "cpmm",
    RAYDIUM_AMM_V4: "amm-v4",
    METEORA_DLMM: "dlmm",
    METEORA_DAMM_V2: "damm-v2",
}

Fields: TypeAlias = dict[str, Any]
"""An object of JSON; what is in it only its decoder knows."""

T = TypeVar("T")

# A double represents every integer up to here.
_EXACT = 2**53


def pool_id(program: str, token_a: str, token_b: str) -> str:
    """Return the id of a program's pool of two tokens, such as ``raydium:SOL-USDC:cpmm``."""
    return f"{PROGRAMS[program]}:{token_a}-{token_b}:{_SHORT_NAMES[program]}"


def pool_row(pool: PaperPool) -> Fields:
    """Return a pool as a row, ready for JSON."""
    return {
        "id": pool.id,
        "dex": pool.dex,
        "program": pool.program,
        "token_a": pool.token_a,
        "token_b": pool.token_b,
        "state": encode(pool.program, pool.state),
        "vault_a": pool.vault_a,
        "vault_b": pool.vault_b,
        "opened_slot": pool.opened_slot,
        "origin": pool.origin,
    }


def pool_from_row(row: Fields) -> PaperPool:
    """Return the pool of a row.

    Raises:
        KeyError, TypeError, ValueError: The row is malformed.
    """
    state = decode(row["program"], row["state"])
    return PaperPool(**{**row, "dex": Dex(row["dex"]), "state": state, "origin": Origin(row["origin"])})


def encode(program: str, state: PoolState) -> Fields:
    """Return a pool's state as JSON types; the program's name must be stored with it.

    Raises:
        KeyError: Unknown program.
        AttributeError: The state belongs to another program.
    """
    return _ENCODERS[program](state)


def decode(program: str, values: Fields) -> PoolState:
    """Return the encoded state.

    Raises:
        KeyError: Unknown program, or a missing field.
        TypeError: A missing field, or one that the program does not have.
    """
    return _DECODERS[program](values)


def _number(value: object) -> object:
    """Return a number in a form that JSON keeps exactly; anything else unchanged."""
    if type(value) is int and not -_EXACT <= value <= _EXACT:
        return str(value)
    return value


def _numbers(values: Iterable[int]) -> list[int | str]:
    return [str(value) if not -_EXACT <= value <= _EXACT else value for value in values]


def _integer(value: object) -> object:
    return int(value) if type(value) is str else value


class _Plain(Generic[T]):
    """Encodes a dataclass of numbers by its field names, except the fields named in ``apart``."""

    def __init__(self, kind: type[T], *apart: str) -> None:
        self._kind = kind
        self._names = tuple(field.name for field in fields(cast("Any", kind)) if field.name not in apart)
        self._values: Callable[[T], tuple[object, ...]] = attrgetter(*self._names)

    def encode(self, value: T) -> Fields:
        return dict(zip(self._names, map(_number, self._values(value)), strict=True))

    def decode(self, values: Fields, **apart: object) -> T:
        plain = {name: _integer(value) for name, value in values.items() if name not in apart}
        if len(plain) != len(self._names):
            raise TypeError(f"{self._kind.__name__} must have the fields {', '.join(self._names)}")
        return self._kind(**plain, **apart)


_CPMM = _Plain(CpmmPool)
_AMM_V4 = _Plain(AmmV4Pool)
_DAMM_V2 = _Plain(DammV2Pool, "base_fee", "dynamic_fee")
_BASE_FEE = _Plain(BaseFee)
_DYNAMIC_FEE = _Plain(DynamicFee)
_DLMM = _Plain(DlmmPool, "parameters", "arrays", "liquid_arrays", "volatility")
_PARAMETERS = _Plain(DlmmParameters)
_VOLATILITY = _Plain(Volatility)


def _encode_damm_v2(pool: DammV2Pool) -> Fields:
    dynamic_fee = pool.dynamic_fee
    return _DAMM_V2.encode(pool) | {
        "base_fee": _BASE_FEE.encode(pool.base_fee),
        "dynamic_fee": None if dynamic_fee is None else _DYNAMIC_FEE.encode(dynamic_fee),
    }


def _decode_damm_v2(values: Fields) -> PoolState:
    dynamic_fee = values["dynamic_fee"]
    return _DAMM_V2.decode(
        values,
        base_fee=_BASE_FEE.decode(values["base_fee"]),
        dynamic_fee=None if dynamic_fee is None else _DYNAMIC_FEE.decode(dynamic_fee),
    )


def _encode_dlmm(pool: DlmmPool) -> Fields:
    """Encode ``bins`` as (id, X, Y) repeated; ``orders`` as (id, open, begun, 1 for asks) repeated."""
    bins: list[int] = []
    orders: list[int] = []
    for index, array in pool.arrays.items():
        for bin_id, held in enumerate(array.bins, index * BINS_PER_ARRAY):
            if held is EMPTY_BIN:
                continue
            amount_x, amount_y = held.amount_x, held.amount_y
            if amount_x or amount_y:
                bins += (bin_id, amount_x, amount_y)
            if held.open_orders or held.begun_orders or held.orders_ask:
                orders += (bin_id, held.open_orders, held.begun_orders, int(held.orders_ask))
    return _DLMM.encode(pool) | {
        "parameters": _PARAMETERS.encode(pool.parameters),
        "volatility": _VOLATILITY.encode(pool.volatility),
        "arrays": list(pool.arrays),
        "liquid_arrays": list(pool.liquid_arrays),
        "bins": _numbers(bins),
        "orders": _numbers(orders),
    }


def _decode_dlmm(values: Fields) -> PoolState:
    rest = dict(values)
    held: dict[int, list[Bin]] = {index: [EMPTY_BIN] * BINS_PER_ARRAY for index in rest.pop("arrays")}
    row = map(int, rest.pop("bins"))
    for bin_id, amount_x, amount_y in zip(row, row, row, strict=True):
        held[bin_id // BINS_PER_ARRAY][bin_id % BINS_PER_ARRAY] = Bin(amount_x, amount_y)
    row = map(int, rest.pop("orders"))
    for bin_id, still_open, begun, ask in zip(row, row, row, row, strict=True):
        array, offset = held[bin_id // BINS_PER_ARRAY], bin_id % BINS_PER_ARRAY
        array[offset] = Bin(array[offset].amount_x, array[offset].amount_y, still_open, begun, bool(ask))
    return _DLMM.decode(
        rest,
        parameters=_PARAMETERS.decode(rest["parameters"]),
        volatility=_VOLATILITY.decode(rest["volatility"]),
        arrays={index: BinArray(index, tuple(bins)) for index, bins in held.items()},
        liquid_arrays=tuple(rest["liquid_arrays"]),
    )


_ENCODERS: dict[str, Callable[[Any], Fields]] = {
    RAYDIUM_CPMM: _CPMM.encode,
    RAYDIUM_AMM_V4: _AMM_V4.encode,
    METEORA_DLMM: _encode_dlmm,
    METEORA_DAMM_V2: _encode_damm_v2,
}

_DECODERS: dict[str, Callable[[Fields], PoolState]] = {
    RAYDIUM_CPMM: _CPMM.decode,
    RAYDIUM_AMM_V4: _AMM_V4.decode,
    METEORA_DLMM: _decode_dlmm,
    METEORA_DAMM_V2: _decode_damm_v2,
}
