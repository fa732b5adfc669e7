"""Every recorded result of the programs, exact to the unit. GOLDEN_DIR may name a folder with more."""

from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace

import pytest

from service.amm.errors import (
    AmmError,
    AmountTooSmallError,
    ArithmeticOverflowError,
    InsufficientLiquidityError,
    PoolDisabledError,
    PoolNotOpenError,
    SwapRefusedError,
    SwapUndeterminedError,
)
from service.amm.meteora_damm_v2 import DammV2Pool
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_damm_v2_account import pool_of_account as damm_v2_pool_of
from service.amm.meteora_dlmm import DlmmPool
from service.amm.meteora_dlmm_account import (
    BIN,
    BinArrayAccount,
    LbPairAccount,
    pool_of_accounts,
)
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY
from service.amm.meteora_dlmm_prices import price_of_bin
from service.amm.quote import PoolState, SwapQuote
from service.amm.raydium_cpmm_account import CpmmConfigAccount, CpmmPoolAccount
from service.amm.raydium_cpmm_account import pool_of_accounts as cpmm_pool_of
from tests.unit.amm.amm_vectors import (
    Vector,
    amm_v4_pool,
    cpmm_pool,
    damm_v2_pool,
    differences,
    direction,
    dlmm_pool,
    sequences,
    time_of,
    vectors,
)

# The error that each program code stands for. For a code that is not listed, any error is correct.
CLASSES: dict[tuple[str, object], tuple[type[AmmError], ...]] = {
    ("cpmm", 2505): (AmountTooSmallError,),
    ("cpmm", 6000): (PoolDisabledError, PoolNotOpenError),
    ("cpmm", "overflow"): (ArithmeticOverflowError,),
    ("ammv4", 29): (AmountTooSmallError,),
    ("ammv4", 40): (InsufficientLiquidityError,),
    ("dlmm", 6039): (AmountTooSmallError,),
    ("dlmm", 6036): (InsufficientLiquidityError,),
    ("dlmm", 6042): (PoolDisabledError, PoolNotOpenError),
    ("dlmm_exact_out", 6085): (SwapUndeterminedError,),
    ("damm2", 6000): (InsufficientLiquidityError, ArithmeticOverflowError),
    ("damm2", 6003): (PoolDisabledError, PoolNotOpenError),
    ("damm2", 6015): (InsufficientLiquidityError,),
}

POOLS: dict[str, tuple[Callable[[Vector], PoolState], str]] = {
    "cpmm": (cpmm_pool, "zero_for_one"),
    "ammv4": (amm_v4_pool, "coin_to_pc"),
    "dlmm": (dlmm_pool, "swap_for_y"),
    "dlmm_exact_out": (dlmm_pool, "swap_for_y"),
    "damm2": (damm_v2_pool, "a_to_b"),
}


def quote(name: str, vector: Vector) -> SwapQuote[PoolState]:
    make_pool, side = POOLS[name]
    pool = make_pool(vector)
    ask = pool.quote_exact_in if vector["kind"] == "exact_in" else pool.quote_exact_out
    return ask(direction(a_to_b=vector[side]), vector["amount"], time_of(vector))


def mismatch(name: str, vector: Vector) -> str | None:
    """Return how a quote differs from the program's result, or None."""
    answer = vector["answer"]
    try:
        quoted = quote(name, vector)
    except AmmError as error:
        allowed = CLASSES.get((name, answer.get("error")), (SwapRefusedError,))
        if "error" in answer and isinstance(error, allowed):
            return None
        return f"{vector['id']}: {error!r} for {answer}"
    exact_in = vector["kind"] == "exact_in"
    asked = quoted.amount_in if exact_in else quoted.amount_out
    got = {"out": quoted.amount_out} if exact_in else {"inp": quoted.amount_in}
    if asked != vector["amount"] or got != answer:
        return f"{vector['id']}: {quoted} for {answer}"
    return by_products(name, vector, quoted)


def by_products(name: str, vector: Vector, quoted: SwapQuote[PoolState]) -> str | None:
    """Compare the fee and the state after the swap, as far as the vector has them."""
    expect: Vector = dict(vector.get("expect") or {})
    if "trade_fee" in expect:
        expect["fee"] = expect["trade_fee"] + expect["creator_fee"]
    program = vector.get("program") or {}
    expect["next_sqrt_price"] = program.get("next_sqrt_price")
    fee = quoted.fee_in + quoted.fee_out
    known: Vector = {"fee": fee}
    if fee:
        known["fee_on_input"] = quoted.fee_in > 0
    after = quoted.next_state()
    if isinstance(after, DlmmPool):
        known |= {"end_bin": after.active_id, "va": after.volatility.accumulator}
    if isinstance(after, DammV2Pool):
        known["next_sqrt_price"] = after.sqrt_price
    wrong = {
        key: expect[key]
        for key, value in known.items()
        if expect.get(key) is not None and expect[key] != value
    }
    return f"{vector['id']}: {name} gave {known}, not {wrong}" if wrong else None


@pytest.mark.parametrize("name", POOLS)
def test_every_result_of_the_program_is_reproduced(name: str) -> None:
    asked = vectors(name)
    wrong = [text for vector in asked if (text := mismatch(name, vector))]
    assert asked
    assert not wrong, f"{len(wrong)} of {len(asked)}:\n" + "\n".join(wrong[:20])


def test_the_state_after_a_dlmm_swap_equals_the_programs() -> None:
    for recorded in differences():
        case, kind = recorded["case"], recorded["kind"]
        if kind.endswith(":6085"):
            with pytest.raises(SwapUndeterminedError):
                quote("dlmm", case)
            continue
        quoted = quote("dlmm", case)
        paid = recorded.get("program") or {"inp": recorded["spent"], "out": recorded["got"]}
        assert {"inp": quoted.amount_in, "out": quoted.amount_out} == paid, (kind, case["id"])
        after = quoted.next_state()
        assert isinstance(after, DlmmPool)
        for name, (program, _) in recorded.get("program_vs_project", {}).items():
            assert str(getattr(after, name)) == program, (kind, case["id"])


def test_dlmm_sequences_are_reproduced_step_by_step() -> None:
    for sequence in sequences("seq_dlmm"):
        pool = dlmm_pool(sequence)
        for number, step in enumerate(sequence["steps"]):
            side = direction(a_to_b=step["x_in"])
            quoted = pool.quote_exact_in(side, step["amount"], time_of(step))
            assert (quoted.amount_in, quoted.amount_out) == (step["spent"], step["out"]), number
            pool = quoted.next_state()
            volatility = pool.volatility
            known = {
                "va": volatility.accumulator,
                "vref": volatility.reference,
                "idxref": volatility.index_reference,
                "last_ts": volatility.last_update_s,
                "active_id": pool.active_id,
                "pf_x": pool.protocol_fee_x,
                "pf_y": pool.protocol_fee_y,
            }
            assert known == step["pool"], number
            bins = [bin_ for array in pool.arrays.values() for bin_ in array.bins]
            totals = [sum(bin_.amount_x for bin_ in bins), sum(bin_.amount_y for bin_ in bins)]
            assert totals == step["bins_total"], number
            active = pool.bin(pool.active_id)
            assert [active.amount_x, active.amount_y] == step["active_bin"], number


def test_damm_v2_sequences_are_reproduced_step_by_step() -> None:
    for sequence in sequences("seq_damm2"):
        pool = damm_v2_pool(sequence)
        for number, step in enumerate(sequence["steps"]):
            side = direction(a_to_b=step["a_to_b"])
            quoted = pool.quote_exact_in(side, step["amount"], time_of(step))
            assert (quoted.amount_in, quoted.amount_out) == (step["spent"], step["out"]), number
            pool = quoted.next_state()
            known = {
                "sp": pool.sqrt_price,
                "pa_fee": pool.protocol_fee_a,
                "pb_fee": pool.protocol_fee_b,
                "a_amt": pool.amount_a,
                "b_amt": pool.amount_b,
            }
            if dynamic := pool.dynamic_fee:
                known["dyn_va"] = dynamic.accumulator
                known["dyn_vref"] = dynamic.reference
                known["dyn_sref"] = dynamic.sqrt_price_reference
                known["dyn_ts"] = dynamic.last_update_s
            assert known.items() <= step["pool"].items(), number


def test_cpmm_accounts_decode_to_the_vectors_state() -> None:
    for vector in (vector for vector in vectors("cpmm") if "pool_account_b64" in vector):
        data = b64decode(vector["pool_account_b64"])
        account = CpmmPoolAccount.decode(data)
        assert account.encode() == data
        config = CpmmConfigAccount(
            trade_fee_rate=vector["trade_fee_rate"],
            protocol_fee_rate=vector["protocol_fee_rate"],
            fund_fee_rate=vector["fund_fee_rate"],
            creator_fee_rate=vector["creator_fee_rate"],
        )
        assert CpmmConfigAccount.decode(config.encode()) == config
        plain = cpmm_pool(vector)
        decoded = cpmm_pool_of(account, config, vault_0=plain.vault_0, vault_1=plain.vault_1)
        assert decoded == plain
        assert account.written(plain).encode() == data


def test_dlmm_accounts_decode_to_the_vectors_state() -> None:
    for vector in (vector for vector in vectors("dlmm") if vector.get("pool_account_b64")):
        data = b64decode(vector["pool_account_b64"])
        pair = LbPairAccount.decode(data)
        assert pair.encode() == data
        arrays = []
        for index, text in vector["bin_arrays_b64"] or ():
            bytes_of_array = b64decode(text)
            account = BinArrayAccount.decode(bytes_of_array)
            assert account.index == index
            assert account.encode() == bytes_of_array
            assert account.written(account.array).encode() == bytes_of_array
            assert stored_prices(account) == [
                price_of_bin(index * BINS_PER_ARRAY + offset, pair.bin_step)
                for offset in range(BINS_PER_ARRAY)
            ]
            arrays.append(account)
        decoded, plain = pool_of_accounts(pair, arrays), dlmm_pool(vector)
        if not arrays:
            # Only the pair was recorded.
            decoded = replace(decoded, arrays=plain.arrays)
        assert decoded == plain
        assert pair.written(decoded).encode() == data


def stored_prices(account: BinArrayAccount) -> list[int]:
    """Return the prices that the program keeps in the bins."""
    starts = range(0, len(account.bins), BIN.size)
    return [int.from_bytes(account.bins[at + 16 : at + 32], "little") for at in starts]


def test_damm_v2_accounts_decode_to_the_vectors_state() -> None:
    for vector in (vector for vector in vectors("damm2") if vector.get("pool_account_b64")):
        data = b64decode(vector["pool_account_b64"])
        account = DammV2Account.decode(data)
        assert account.encode() == data
        decoded = damm_v2_pool_of(account)
        assert decoded == damm_v2_pool(vector)
        assert account.written(decoded).encode() == data
