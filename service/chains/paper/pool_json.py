"""Encodes a pool's state as JSON and decodes it, without loss.

Integers that a double cannot represent are strings: PostgreSQL would keep them as numbers, but most JSON
parsers would not. A DLMM pool's non-empty bins are flat arrays of numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict, TypeVar

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY, EMPTY_BIN, Bin, BinArray
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.chains.paper.pool import Origin, PaperPool
from service.domain.quote import Dex

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

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

StateJson: TypeAlias = dict[str, object]
"""A pool's state: numbers by name, and what ``_DammV2Json`` or ``_DlmmJson`` adds."""


class PoolJson(TypedDict):
    """A pool; see ``PaperPool``."""

    id: str
    dex: str
    program: str
    token_a: str
    token_b: str
    state: StateJson
    vault_a: int
    vault_b: int
    opened_slot: int
    origin: str


class _DammV2Json(TypedDict):
    """The parts of a DAMM v2 pool's state that are not numbers."""

    base_fee: StateJson
    dynamic_fee: StateJson | None


class _DlmmJson(TypedDict):
    """The parts of a DLMM pool's state that are not numbers.

    ``arrays`` and ``liquid_arrays`` are indices. ``bins`` are (id, X, Y) repeated, ``orders`` (id, open,
    begun, 1 for asks) repeated.
    """

    parameters: StateJson
    volatility: StateJson
    arrays: Sequence[int]
    liquid_arrays: Sequence[int]
    bins: Sequence[int | str]
    orders: Sequence[int | str]


T = TypeVar("T", bound="DataclassInstance")

# A double represents every integer up to here.
_EXACT = 2**53


def pool_id(program: str, token_a: str, token_b: str) -> str:
    """Return the id of a program's pool of two tokens, such as ``raydium:SOL-USDC:cpmm``."""
    return f"{PROGRAMS[program]}:{token_a}-{token_b}:{_SHORT_NAMES[program]}"


def pool_row(pool: PaperPool) -> PoolJson:
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


def pool_from_row(row: PoolJson) -> PaperPool:
    """Return the pool of a row.

    Raises:
        KeyError, TypeError, ValueError: The row is malformed.
    """
    if set(row) != PoolJson.__annotations__.keys():
        raise TypeError(f"a pool must have the fields {', '.join(PoolJson.__annotations__)}")
    return PaperPool(
        row["id"],
        Dex(row["dex"]),
        row["program"],
        row["token_a"],
        row["token_b"],
        decode(row["program"], row["state"]),
        row["vault_a"],
        row["vault_b"],
        row["opened_slot"],
        Origin(row["origin"]),
    )


def encode(program: str, state: PoolState) -> StateJson:
    """Return a pool's state as JSON types; the program's name must be stored with it.

    Raises:
        KeyError: Unknown program.
        AttributeError: The state belongs to another program.
    """
    return _ENCODERS[program](state)


def decode(program: str, values: StateJson) -> PoolState:
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
    """Encodes a dataclass of numbers by its field names, except the fields in ``others``."""

    def __init__(self, kind: type[T], *others: str) -> None:
        self._kind = kind
        self._names = tuple(field.name for field in fields(kind) if field.init and field.name not in others)
        self._values: Callable[[T], tuple[object, ...]] = attrgetter(*self._names)

    def encode(self, value: T) -> StateJson:
        return dict(zip(self._names, map(_number, self._values(value)), strict=True))

    def decode(self, values: Mapping[str, object], **others: object) -> T:
        plain = {name: _integer(value) for name, value in values.items() if name not in others}
        if len(plain) != len(self._names):
            raise TypeError(f"{self._kind.__name__} must have the fields {', '.join(self._names)}")
        return self._kind(**plain, **others)


_CPMM = _Plain(CpmmPool)
_AMM_V4 = _Plain(AmmV4Pool)
_DAMM_V2 = _Plain(DammV2Pool, "base_fee", "dynamic_fee")
_BASE_FEE = _Plain(BaseFee)
_DYNAMIC_FEE = _Plain(DynamicFee)
_DLMM = _Plain(DlmmPool, "parameters", "arrays", "liquid_arrays", "volatility")
_PARAMETERS = _Plain(DlmmParameters)
_VOLATILITY = _Plain(Volatility)


def _encode_damm_v2(pool: DammV2Pool) -> StateJson:
    dynamic_fee = pool.dynamic_fee
    others: _DammV2Json = {
        "base_fee": _BASE_FEE.encode(pool.base_fee),
        "dynamic_fee": None if dynamic_fee is None else _DYNAMIC_FEE.encode(dynamic_fee),
    }
    return {**_DAMM_V2.encode(pool), **others}


def _decode_damm_v2(values: _DammV2Json) -> PoolState:
    dynamic_fee = values["dynamic_fee"]
    return _DAMM_V2.decode(
        values,
        base_fee=_BASE_FEE.decode(values["base_fee"]),
        dynamic_fee=None if dynamic_fee is None else _DYNAMIC_FEE.decode(dynamic_fee),
    )


def _encode_dlmm(pool: DlmmPool) -> StateJson:
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
    others: _DlmmJson = {
        "parameters": _PARAMETERS.encode(pool.parameters),
        "volatility": _VOLATILITY.encode(pool.volatility),
        "arrays": list(pool.arrays),
        "liquid_arrays": list(pool.liquid_arrays),
        "bins": _numbers(bins),
        "orders": _numbers(orders),
    }
    return {**_DLMM.encode(pool), **others}


def _decode_dlmm(values: _DlmmJson) -> PoolState:
    held: dict[int, list[Bin]] = {index: [EMPTY_BIN] * BINS_PER_ARRAY for index in values["arrays"]}
    row = map(int, values["bins"])
    for bin_id, amount_x, amount_y in zip(row, row, row, strict=True):
        held[bin_id // BINS_PER_ARRAY][bin_id % BINS_PER_ARRAY] = Bin(amount_x, amount_y)
    row = map(int, values["orders"])
    for bin_id, still_open, begun, ask in zip(row, row, row, row, strict=True):
        array, offset = held[bin_id // BINS_PER_ARRAY], bin_id % BINS_PER_ARRAY
        array[offset] = Bin(array[offset].amount_x, array[offset].amount_y, still_open, begun, bool(ask))
    rest = dict(values)
    del rest["bins"], rest["orders"]
    return _DLMM.decode(
        rest,
        parameters=_PARAMETERS.decode(values["parameters"]),
        volatility=_VOLATILITY.decode(values["volatility"]),
        arrays={index: BinArray(index, tuple(bins)) for index, bins in held.items()},
        liquid_arrays=tuple(values["liquid_arrays"]),
    )


# By program: no type can say that each takes the state, or the JSON, of its own program only.
_ENCODERS: dict[str, Callable[[Any], StateJson]] = {
    RAYDIUM_CPMM: _CPMM.encode,
    RAYDIUM_AMM_V4: _AMM_V4.encode,
    METEORA_DLMM: _encode_dlmm,
    METEORA_DAMM_V2: _encode_damm_v2,
}

_DECODERS: dict[str, Callable[[Any], PoolState]] = {
    RAYDIUM_CPMM: _CPMM.decode,
    RAYDIUM_AMM_V4: _AMM_V4.decode,
    METEORA_DLMM: _decode_dlmm,
    METEORA_DAMM_V2: _decode_damm_v2,
}
