"""The transaction that is built: its instructions, its limits, and what makes it unlike any other."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from solders.account import Account
from solders.hash import Hash
from solders.instruction import Instruction
from solders.litesvm import LiteSVM
from solders.message import MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from service.amm import Direction
from service.chains.solana.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    MEMO_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    WRAPPED_SOL,
    associated_token_account,
)
from service.chains.solana.builder import (
    MAX_ACCOUNTS,
    MAX_BYTES,
    BuiltTransaction,
    ComputeBudget,
    TransactionTooLargeError,
    build,
    compile_transaction,
    instructions,
    mark_of,
)
from service.chains.solana.plan import InvalidPlanError, PlannedLeg, SwapPlan, plan_of_route
from service.chains.solana.programs.pool import LegSwap
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.receipt import decoded_swaps
from service.domain.amounts import U64_MAX
from service.domain.leg_limits import leg_limits
from service.domain.quote import Path, Route, SwapMode
from tests.support.executed import PROGRAMS, RENT, USDC, WALLET, executed
from tests.support.solana_pools import FOUR_LEGS, elsewhere, made_up, quoted_leg, recorded

BUDGET = ComputeBudget(compute_units=300_000, loaded_bytes=16 * 1024 * 1024, priority_fee=7_000)
BLOCKHASH = Hash.hash(b"recent")
MINTS = {"SOL": WRAPPED_SOL, "USDC": USDC}
ME = WALLET.pubkey()
SOL = 10**9
TOKEN = made_up("token")


def built(plan: SwapPlan, order: str = "order", attempt: int = 1) -> BuiltTransaction:
    return build(plan, ME, mark_of(order, attempt), BUDGET, BLOCKHASH, RENT)


def signature(transaction: BuiltTransaction) -> str:
    return str(VersionedTransaction(transaction.message, [WALLET]).signatures[0])


def swap(way: Direction, amount_in: int = 1_000, amount_out: int = 900) -> LegSwap:
    return LegSwap(way, SwapMode.EXACT_IN, amount_in, amount_out)


def without_sol(name: str = "pool", program: Pubkey = MAINNET.raydium_cpmm) -> SwapPlan:
    """Return a plan that sells USDC for another token."""
    pool = elsewhere(program, name, USDC, TOKEN)
    return SwapPlan(((PlannedLeg(pool, swap(Direction.A_TO_B)),),))


def four_legs(*, sell_sol: bool) -> tuple[Route, dict[str, tuple[int, ...]]]:
    """Return a route through one pool of each program, and the bin arrays that it carries."""
    case = executed()[FOUR_LEGS]
    paths, arrays = [], {}
    for known in recorded().values():
        sol_first = known.pool.addresses.token_a.mint == WRAPPED_SOL
        way = Direction.A_TO_B if sol_first is sell_sol else Direction.B_TO_A
        tokens = ("SOL", "USDC") if sell_sol else ("USDC", "SOL")
        pool_id = str(known.pool.addresses.pool)
        amount = SOL if sell_sol else 100 * 10**6
        leg, arrays[pool_id] = quoted_leg(known, pool_id, amount, way, tokens, case)
        paths.append(Path((leg,)))
    return Route(SwapMode.EXACT_IN, *tokens, tuple(paths), 0), arrays


def plan_of_four(*, sell_sol: bool, slippage_bps: int = 50) -> tuple[SwapPlan, int]:
    """Return the plan of such a route, and the order's minimum output."""
    route, arrays = four_legs(sell_sol=sell_sol)
    maximum_in, minimum_out = route.limits(slippage_bps)
    limits = leg_limits(route, maximum_in, minimum_out, 5)
    pools = {str(known.pool.addresses.pool): known.pool for known in recorded().values()}
    return plan_of_route(route, limits, pools, MINTS, arrays), minimum_out


@pytest.mark.parametrize("sell_sol", [True, False], ids=["sell", "buy"])
def test_a_route_of_four_legs_fits_with_its_mark(sell_sol: bool) -> None:
    plan, minimum_out = plan_of_four(sell_sol=sell_sol)
    transaction = built(plan)
    assert transaction.size < 1_750
    assert len(transaction.message.account_keys) <= 39
    swaps = decoded_swaps(VersionedTransaction(transaction.message, [WALLET]), PROGRAMS)
    assert [(each.pool, each.amount_in, each.amount_out) for each in swaps] == [
        (leg.pool.addresses.pool, leg.swap.amount_in, leg.swap.amount_out) for leg in plan.legs
    ]
    assert sum(each.amount_out for each in swaps) >= minimum_out


def test_more_sol_than_can_be_wrapped_is_refused() -> None:
    plan, _ = plan_of_four(sell_sol=True)
    [leg] = plan.paths[0]
    for amount, fits in ((U64_MAX - RENT, True), (U64_MAX - RENT + 1, False)):
        whole = SwapPlan(((replace(leg, swap=replace(leg.swap, amount_in=amount)),),))
        with nullcontext() if fits else pytest.raises(InvalidPlanError, match="lamports to sell"):
            built(whole)


def test_two_equal_orders_have_two_signatures() -> None:
    plan, _ = plan_of_four(sell_sol=True)
    transactions = [built(plan, "one", 1), built(plan, "two", 1), built(plan, "one", 2)]
    assert len({signature(each) for each in transactions}) == 3
    assert signature(built(plan, "one", 1)) == signature(transactions[0])


def test_two_equal_orders_without_sol_have_two_signatures() -> None:
    """Here nothing but the memo differs."""
    transactions = [built(without_sol(), "one"), built(without_sol(), "two")]
    assert transactions[0].wrapped_sol is None
    assert signature(transactions[0]) != signature(transactions[1])
    keys = [each.message.account_keys for each in transactions]
    assert keys[0] == keys[1]


def test_a_mark_does_not_reveal_the_order() -> None:
    marks = {mark_of("order", attempt) for attempt in range(100)}
    assert len(marks) == 100
    assert all(len(mark) == 16 and int(mark, 16) >= 0 for mark in marks)
    assert mark_of("a1", 1) != mark_of("a", 11)


def test_every_value_of_the_configuration_is_set() -> None:
    """In version 1 a limit that is not set is zero, and the transaction fails."""
    for fee in (0, 7_000):
        budget = replace(BUDGET, priority_fee=fee)
        config = build(without_sol(), ME, "m", budget, BLOCKHASH, RENT).message.config
        assert config.priority_fee == fee
        assert config.compute_unit_limit == 300_000
        assert config.loaded_accounts_data_size_limit == 16 * 1024 * 1024


def test_the_fee_is_the_signature_and_the_priority() -> None:
    assert built(without_sol()).network_fee == 5_000 + 7_000


@pytest.mark.parametrize(
    ("units", "loaded", "fee"),
    [(0, 1, 0), (1_400_001, 1, 0), (1, 0, 0), (1, 64 * 1024 * 1024 + 1, 0), (1, 1, -1), (1, 1, 2**64)],
)
def test_a_budget_out_of_range_is_refused(units: int, loaded: int, fee: int) -> None:
    with pytest.raises(ValueError, match=r"compute units|bytes of loaded|priority fee"):
        ComputeBudget(units, loaded, fee)


def test_sol_is_wrapped_in_an_account_of_the_transaction_and_closed() -> None:
    plan, _ = plan_of_four(sell_sol=True)
    transaction = built(plan)
    wrapped = transaction.wrapped_sol
    assert wrapped == Pubkey.create_with_seed(ME, mark_of("order", 1), TOKEN_PROGRAM)
    create, initialize, account, *swaps, close, memo = instructions(plan, ME, mark_of("order", 1), RENT)
    assert create.program_id == SYSTEM_PROGRAM
    assert create.data[4 + 32 + 8 + 16 :][:8] == (RENT + 4 * SOL).to_bytes(8, "little")
    assert initialize.accounts[0].pubkey == wrapped
    assert account.program_id == ASSOCIATED_TOKEN_PROGRAM
    assert {meta.pubkey for each in swaps for meta in each.accounts} >= {wrapped}
    assert (close.program_id, close.data) == (TOKEN_PROGRAM, b"\x09")
    assert [meta.pubkey for meta in close.accounts] == [wrapped, ME, ME]
    assert (memo.program_id, memo.data, memo.accounts) == (MEMO_PROGRAM, mark_of("order", 1).encode(), [])
    # The user's own wrapped SOL is not touched.
    own = associated_token_account(ME, WRAPPED_SOL, TOKEN_PROGRAM)
    assert own not in transaction.message.account_keys


def test_sol_that_is_bought_needs_only_the_rent() -> None:
    plan, _ = plan_of_four(sell_sol=False)
    create, _initialize, *others = instructions(plan, ME, "m", RENT)
    assert create.data[4 + 32 + 8 + 1 :][:8] == RENT.to_bytes(8, "little")
    # The account of what is sold exists, or there is nothing to sell.
    assert ASSOCIATED_TOKEN_PROGRAM not in {each.program_id for each in others}


def hops(first: int, second: int, hub: Pubkey = USDC) -> SwapPlan:
    """Return a plan from SOL over a hub to a token."""
    one = elsewhere(MAINNET.raydium_cpmm, "one", WRAPPED_SOL, hub)
    two = elsewhere(MAINNET.meteora_damm_v2, "two", hub, TOKEN)
    return SwapPlan(
        (
            (
                PlannedLeg(one, swap(Direction.A_TO_B, amount_out=first)),
                PlannedLeg(two, swap(Direction.A_TO_B, amount_in=second)),
            ),
        )
    )


def test_the_accounts_of_hub_and_output_are_created() -> None:
    created = [
        each.accounts[1].pubkey
        for each in instructions(hops(900, 900), ME, "m", RENT)
        if each.program_id == ASSOCIATED_TOKEN_PROGRAM
    ]
    assert created == [associated_token_account(ME, mint, TOKEN_PROGRAM) for mint in (USDC, TOKEN)]


def test_sol_as_a_hub_needs_no_account_of_the_wallet() -> None:
    one = elsewhere(MAINNET.raydium_cpmm, "one", USDC, WRAPPED_SOL)
    two = elsewhere(MAINNET.meteora_damm_v2, "two", WRAPPED_SOL, TOKEN)
    plan = SwapPlan(
        (
            (
                PlannedLeg(one, swap(Direction.A_TO_B)),
                PlannedLeg(two, swap(Direction.A_TO_B, amount_in=900)),
            ),
        )
    )
    create, *rest = instructions(plan, ME, "m", RENT)
    assert create.data[4 + 32 + 8 + 1 :][:8] == RENT.to_bytes(8, "little")
    created = [each.accounts[1].pubkey for each in rest if each.program_id == ASSOCIATED_TOKEN_PROGRAM]
    assert created == [associated_token_account(ME, TOKEN, TOKEN_PROGRAM)]


def test_a_route_with_too_many_accounts_is_refused() -> None:
    legs = [
        PlannedLeg(
            elsewhere(MAINNET.meteora_dlmm, f"pool {number}", WRAPPED_SOL, USDC),
            replace(swap(Direction.A_TO_B), bin_arrays=(-28, -29, -30)),
        )
        for number in range(8)
    ]
    with pytest.raises(TransactionTooLargeError, match=rf"6\d accounts, at most {MAX_ACCOUNTS}"):
        built(SwapPlan(tuple((leg,) for leg in legs)))
    assert built(SwapPlan(tuple((leg,) for leg in legs[:7]))).size < MAX_BYTES


def memo(size: int) -> Instruction:
    return Instruction(MEMO_PROGRAM, b"m" * size, [])


def test_the_limits_of_the_chain_are_exact() -> None:
    frame = compile_transaction([memo(0)], ME, BUDGET, BLOCKHASH).size
    largest = compile_transaction([memo(MAX_BYTES - frame)], ME, BUDGET, BLOCKHASH)
    assert len(bytes(VersionedTransaction(largest.message, [WALLET]))) == largest.size == MAX_BYTES
    with pytest.raises(TransactionTooLargeError, match="4097 bytes, at most 4096"):
        compile_transaction([memo(MAX_BYTES - frame + 1)], ME, BUDGET, BLOCKHASH)
    assert len(compile_transaction([memo(1)] * 64, ME, BUDGET, BLOCKHASH).message.instructions) == 64
    with pytest.raises(TransactionTooLargeError, match="65 instructions, at most 64"):
        compile_transaction([memo(1)] * 65, ME, BUDGET, BLOCKHASH)


def test_the_library_accepts_what_is_built() -> None:
    transaction = built(plan_of_four(sell_sol=True)[0])
    transaction.message.validate()
    signed = VersionedTransaction(transaction.message, [WALLET])
    assert signed.verify_with_results() == [True]
    assert bytes(signed) == transaction.signed_bytes + bytes(signed.signatures[0])
    assert isinstance(VersionedTransaction.from_bytes(bytes(signed)).message, MessageV1)


def test_all_but_the_legs_runs_on_the_virtual_machine() -> None:
    """Without the programs' binaries: SOL is wrapped and unwrapped, an account created, the mark logged."""
    plan, _ = plan_of_four(sell_sol=True)
    legs = {leg.pool.addresses.program for leg in plan.legs}
    frame = [
        each for each in instructions(plan, ME, mark_of("order", 1), RENT) if each.program_id not in legs
    ]
    assert len(frame) == 5
    vm = LiteSVM().with_blockhash_check(False)
    for key, account in executed()[FOUR_LEGS].before.items():
        if key in (ME, USDC, WRAPPED_SOL):
            vm.set_account(key, Account(account.lamports, account.data, account.owner))
    before = vm.get_balance(ME)
    compiled = compile_transaction(frame, ME, BUDGET, vm.latest_blockhash())
    result = vm.send_transaction(VersionedTransaction(compiled.message, [WALLET]))
    assert isinstance(result, TransactionMetadata), result
    assert f"Program log: {mark_of('order', 1)}" in result.logs()
    after = vm.get_balance(ME)
    assert before is not None
    assert after is not None
    # Only the rent of the new account, and the fee; this machine does not charge the priority.
    assert before - after == RENT + 5_000
