"""Laws of the sandbox chain under random swaps, forks, skipped slots and moved pools."""

from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from service.chains.solana.addresses import TOKEN_PROGRAM, WRAPPED_SOL
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount
from service.sandbox.accounts import StoredAccount
from service.sandbox.blocks import Balances, Landed
from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain

SWAPS = st.tuples(
    st.just("swap"),
    st.lists(st.sampled_from(PROGRAM_NAMES), min_size=1, max_size=4, unique=True),
    st.integers(1, 50_000 * SOL),
    st.booleans(),
)
MOVES = st.one_of(
    SWAPS,
    st.tuples(st.just("advance"), st.integers(1, 40)),
    st.tuples(st.just("fork"), st.integers(1, 12), st.booleans()),
    st.tuples(st.just("skip"), st.integers(1, 5)),
    st.tuples(st.just("move"), st.integers(1, 300)),
)


def move(local: LocalChain, step: tuple[object, ...], sent: list[str]) -> None:
    match step:
        case ("swap", list(names), int(amount), bool(sells_sol)):
            # Amounts of USDC are smaller; some are more than the wallet has, or than a pool can take.
            each = amount // len(names) + 1 if sells_sol else amount // 1_000 + 1
            legs = [local.leg_at_any_price(name, each, sells_sol=sells_sol) for name in names]
            sent.append(local.send(local.swap(*legs)))
        case ("advance", int(slots)):
            local.chain.advance(slots)
        case ("fork", int(depth), bool(keep)):
            local.chain.fork(depth, keep=keep)
        case ("skip", int(slots)):
            local.chain.skip(slots)
        case ("move", int(share)):
            local.mover.arm(share)


def accounts(local: LocalChain, keys: Iterable[Pubkey]) -> dict[Pubkey, StoredAccount]:
    return {key: found for key in keys if (found := local.found(key)) is not None}


def known_keys(local: LocalChain) -> set[Pubkey]:
    """Return every account that the chain ever had on its current fork."""
    blocks = local.chain.blocks_after(0, local.chain.tip.slot)
    return set(local.chain.genesis.accounts).union(*(block.changed for block in blocks))


def supply(found: dict[Pubkey, StoredAccount]) -> Counter[Pubkey]:
    """Return the lamports, as wrapped SOL, and the tokens in all accounts."""
    total: Counter[Pubkey] = Counter()
    for account in found.values():
        total[WRAPPED_SOL] += account.lamports
        if account.owner == TOKEN_PROGRAM and len(account.data) == TOKEN_ACCOUNT_BYTES:
            mint = Pubkey.from_bytes(account.data[:32])
            if mint != WRAPPED_SOL:
                total[mint] += token_amount(account.data)
    return total


@settings(deadline=None)
@given(st.lists(MOVES, min_size=1, max_size=25))
def test_tokens_are_conserved_and_only_fees_vanish(steps: list[tuple[object, ...]]) -> None:
    local = LocalChain()
    before = supply(accounts(local, known_keys(local)))
    for step in steps:
        move(local, step, [])
    landed = [each for block in local.chain.blocks_after(0, local.chain.tip.slot) for each in block.landed]
    before[WRAPPED_SOL] -= sum(each.execution.budget.fee for each in landed)
    assert supply(accounts(local, known_keys(local))) == before


def told(landed: Landed) -> tuple[str, object, Balances]:
    return landed.signature, landed.execution.error, landed.after


@settings(deadline=None)
@given(st.lists(MOVES, min_size=1, max_size=25))
def test_the_chain_after_forks_is_the_one_that_only_has_its_blocks(steps: list[tuple[object, ...]]) -> None:
    """A chain that makes the surviving blocks' transactions in their slots has the same accounts."""
    local, again = LocalChain(), LocalChain()
    for step in steps:
        move(local, step, [])
    for block in local.chain.blocks_after(local.chain.first.slot, local.chain.tip.slot):
        again.chain.skip(block.slot - again.chain.highest_slot - 1)
        for landed in block.landed:
            again.chain.submit(landed.transaction, landed.raw)
        again.chain.advance()
        made = again.chain.tip
        assert (made.slot, made.height, made.blockhash) == (block.slot, block.height, block.blockhash)
        assert made.changed == block.changed
        assert [told(landed) for landed in made.landed] == [told(landed) for landed in block.landed]
    keys = known_keys(local) | known_keys(again)
    assert accounts(again, keys) == accounts(local, keys)


@settings(deadline=None)
@given(st.lists(MOVES, min_size=1, max_size=25))
def test_a_transaction_lands_at_most_once_and_its_status_says_where(steps: list[tuple[object, ...]]) -> None:
    local = LocalChain()
    sent: list[str] = []
    for step in steps:
        move(local, step, sent)
    blocks = local.chain.blocks_after(0, local.chain.tip.slot)
    places = Counter(each.signature for block in blocks for each in block.landed)
    assert set(places.values()) <= {1}
    where = {each.signature: block.slot for block in blocks for each in block.landed}
    for signature in sent:
        status = local.status(signature)
        assert (None if status is None else status["slot"]) == where.get(signature)
