"""Pools as JSON: lossless with every JSON parser, and fast."""

import json
import time
from collections.abc import Iterator
from timeit import repeat
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY, EMPTY_BIN, Bin, BinArray
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.chains.paper.genesis import genesis_pools
from service.chains.paper.pool_json import (
    METEORA_DAMM_V2,
    METEORA_DLMM,
    PROGRAMS,
    RAYDIUM_AMM_V4,
    RAYDIUM_CPMM,
    decode,
    encode,
)
from service.clock import Clock
from service.domain.quote import Dex
from tests.support.market import SLOT, SLOT_MS, VARIANCE

MODEST = settings(max_examples=60, deadline=None)
DOUBLE = 2**53

Case: TypeAlias = tuple[str, PoolState]

numbers = st.integers(-(2**70), 2**128 - 1) | st.integers(DOUBLE - 2, DOUBLE + 2) | st.integers(-9, 9)


def dlmm_pool(
    bins: dict[int, Bin], also_loaded: set[int], liquid: list[int], plain: dict[str, Any]
) -> DlmmPool:
    pool = DlmmPool.of_bins(
        plain.pop("parameters"), plain.pop("active_id"), bins.items(), plain.pop("volatility")
    )
    empty = {index: BinArray(index, (EMPTY_BIN,) * BINS_PER_ARRAY) for index in also_loaded}
    return DlmmPool(
        pool.parameters, pool.active_id, {**empty, **pool.arrays}, tuple(liquid), pool.volatility, **plain
    )


cases = (
    st.tuples(st.just(RAYDIUM_CPMM), st.builds(CpmmPool, *[numbers] * 7, st.booleans(), *[numbers] * 8))
    | st.tuples(st.just(RAYDIUM_AMM_V4), st.builds(AmmV4Pool, *[numbers] * 8))
    | st.tuples(
        st.just(METEORA_DAMM_V2),
        st.builds(
            DammV2Pool,
            *[numbers] * 6,
            st.builds(BaseFee, *[numbers] * 5),
            st.none() | st.builds(DynamicFee, *[numbers] * 11),
            *[numbers] * 10,
        ),
    )
    | st.tuples(
        st.just(METEORA_DLMM),
        st.builds(
            dlmm_pool,
            st.dictionaries(
                st.integers(-443_636, 443_636), st.builds(Bin, *[numbers] * 4, st.booleans()), max_size=12
            ),
            st.sets(st.integers(-6_338, 6_338), max_size=3),
            st.lists(st.integers(-6_338, 6_338), max_size=4),
            st.fixed_dictionaries(
                {
                    "parameters": st.builds(DlmmParameters, *[numbers] * 11, st.booleans()),
                    "active_id": numbers,
                    "volatility": st.builds(Volatility, *[numbers] * 4),
                    "protocol_fee_x": numbers,
                    "protocol_fee_y": numbers,
                    "status": numbers,
                    "pair_type": numbers,
                    "activation_type": numbers,
                    "activation_point": numbers,
                }
            ),
        ),
    )
)


def by_orjson(values: Any) -> Any:
    return orjson.loads(orjson.dumps(values))


def by_doubles(values: Any) -> Any:
    """Parse as JavaScript does: every number is a double."""
    return json.loads(json.dumps(values), parse_int=lambda text: int(float(text)))


@MODEST
@given(cases)
def test_a_state_survives_json(case: Case) -> None:
    program, state = case
    encoded = encode(program, state)
    for values in (encoded, by_orjson(encoded), by_doubles(encoded)):
        decoded = decode(program, values)
        assert decoded == state
        assert type(decoded) is type(state)
        assert encode(program, decoded) == encoded


def leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from leaves(value)
    else:
        yield values


@MODEST
@given(cases)
def test_every_number_is_an_integer_that_a_double_holds(case: Case) -> None:
    for leaf in leaves(encode(*case)):
        assert type(leaf) in {int, str, bool, type(None)}
        assert type(leaf) is not int or abs(leaf) <= DOUBLE
        assert type(leaf) is not str or abs(int(leaf)) > DOUBLE


def test_each_program_has_its_dex() -> None:
    assert PROGRAMS == {
        "raydium_cpmm": Dex.RAYDIUM,
        "raydium_amm_v4": Dex.RAYDIUM,
        "meteora_dlmm": Dex.METEORA,
        "meteora_damm_v2": Dex.METEORA,
    }


def test_every_pool_of_the_market_survives_json() -> None:
    for pool in genesis_pools(1, VARIANCE, Clock(seed=1), SLOT, SLOT_MS):
        assert decode(pool.program, by_orjson(encode(pool.program, pool.state))) == pool.state
        assert PROGRAMS[pool.program] is pool.dex


def test_an_empty_bin_takes_no_space_and_an_array_of_empty_bins_is_kept() -> None:
    parameters = DlmmParameters(10, 10_000)
    pool = DlmmPool.of_bins(parameters, 0, {0: Bin(), 3: Bin(7, 0), 75: Bin()}.items())
    encoded = encode(METEORA_DLMM, pool)
    assert encoded["bins"] == [3, 7, 0]
    assert encoded["orders"] == []
    assert encoded["arrays"] == [0, 1]
    assert decode(METEORA_DLMM, encoded) == pool


def test_a_limit_order_without_liquidity_and_a_side_without_orders_survive() -> None:
    bins = {1: Bin(0, 0, 5, 4), 2: Bin(1, 0, 0, 0, orders_ask=True), 3: Bin(0, 0, 0, 0, orders_ask=True)}
    pool = DlmmPool.of_bins(DlmmParameters(10, 10_000), 0, bins.items())
    encoded = encode(METEORA_DLMM, pool)
    assert encoded["bins"] == [2, 1, 0]
    assert encoded["orders"] == [1, 5, 4, 0, 2, 0, 0, 1, 3, 0, 0, 1]
    assert decode(METEORA_DLMM, by_orjson(encoded)) == pool


def test_an_empty_bin_is_the_shared_empty_bin() -> None:
    pool = DlmmPool.of_bins(DlmmParameters(10, 10_000), 0, {3: Bin(7, 0)}.items())
    decoded = decode(METEORA_DLMM, encode(METEORA_DLMM, pool))
    assert isinstance(decoded, DlmmPool)
    assert sum(bin_ is EMPTY_BIN for bin_ in decoded.arrays[0].bins) == BINS_PER_ARRAY - 1


PLAIN: list[Case] = [(RAYDIUM_CPMM, CpmmPool(1, 1, 1)), (RAYDIUM_AMM_V4, AmmV4Pool(1, 1))]


@pytest.mark.parametrize(("program", "pool"), PLAIN)
def test_a_missing_or_extra_field_is_rejected(program: str, pool: PoolState) -> None:
    values = encode(program, pool)
    with pytest.raises(TypeError):
        decode(program, {**values, "more": 1})
    del values["status"]
    with pytest.raises(TypeError):
        decode(program, values)
    with pytest.raises(KeyError):
        decode("serum", values)


def test_two_hundred_bins_cost_little_more_than_their_json() -> None:
    bins = {
        bin_id: Bin(10**13 if bin_id >= 0 else 0, 10**17 if bin_id <= 0 else 0) for bin_id in range(-100, 100)
    }
    pool = DlmmPool.of_bins(DlmmParameters(10, 10_000), 0, bins.items())
    written = encode(METEORA_DLMM, pool)
    # A ratio of CPU times of this thread: it is 1.8 on any machine, however busy.
    encoding = repeat(lambda: encode(METEORA_DLMM, pool), number=20, repeat=20, timer=time.thread_time)
    dumping = repeat(lambda: json.dumps(written), number=20, repeat=20, timer=time.thread_time)
    assert min(encoding) < 4 * min(dumping)
