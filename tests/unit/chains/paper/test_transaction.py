"""The paper chain's wire format: signing and parsing."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from solders.signature import Signature

from service.chains.paper.transaction import PathSwap, Signer, decode, decode_message, message_of
from service.chains.venue import Swap
from service.domain.amounts import U64_MAX
from service.domain.quote import Dex, Leg, Path, Route, SwapMode

MODEST = settings(max_examples=25, deadline=None)

FIRST = Leg(Dex.METEORA, "meteora:SOL-USDC:dlmm", "SOL", "USDC", 100, 15, 1, 0, 30)
SECOND = Leg(Dex.RAYDIUM, "raydium:USDC-JUP:cpmm", "USDC", "JUP", 15, 17, 1, 0, 40)
DIRECT = Leg(Dex.RAYDIUM, "raydium:SOL-JUP:cpmm", "SOL", "JUP", 50, 9, 1, 0, 20)
ROUTE = Route(SwapMode.EXACT_IN, "SOL", "JUP", (Path((FIRST, SECOND)), Path((DIRECT,))), 60)
SWAP = Swap("0190a8f5-0000-7000-8000-000000000000", 2, ROUTE, maximum_in=150, minimum_out=25)

amounts = st.integers(1, U64_MAX)


@MODEST
@given(amounts, amounts, st.integers(1, 11), st.integers(0, 2**63 - 1), st.sampled_from(SwapMode))
def test_a_signed_transaction_is_parsed_into_its_swap(
    maximum_in: int, minimum_out: int, attempt: int, slot: int, mode: SwapMode
) -> None:
    swap = replace(
        SWAP, route=replace(ROUTE, mode=mode), maximum_in=maximum_in, minimum_out=minimum_out, attempt=attempt
    )
    signed = Signer(seed=1).sign(swap, slot)
    transaction = decode(signed)
    assert (signed.id, signed.dex, signed.last_valid_height) == (transaction.signature, "multiple", slot)
    assert (signed.maximum_in, signed.minimum_out) == (maximum_in, minimum_out)
    assert (transaction.maximum_in, transaction.minimum_out) == (maximum_in, minimum_out)
    assert (transaction.order_id, transaction.attempt) == (swap.order_id, attempt)
    assert (transaction.mode, transaction.last_valid_slot) == (mode, slot)
    assert (transaction.token_in, transaction.token_out) == ("SOL", "JUP")
    fixed = (100, 50) if mode is SwapMode.EXACT_IN else (17, 9)
    assert transaction.paths == (
        PathSwap(fixed[0], ((FIRST.pool_id, "SOL", "USDC"), (SECOND.pool_id, "USDC", "JUP"))),
        PathSwap(fixed[1], ((DIRECT.pool_id, "SOL", "JUP"),)),
    )
    assert decode_message(signed.id, message_of(signed)) == transaction


def test_an_attempts_id_is_the_signature_of_its_bytes_in_base58() -> None:
    signer = Signer(seed=1)
    signed = signer.sign(SWAP, 100)
    signature = Signature.from_string(signed.id)
    assert bytes(signature) == signed.raw[:64]
    assert signature.verify(signer._keypair.pubkey(), signed.raw[64:])


def test_signing_is_deterministic_and_every_difference_gives_another_id() -> None:
    ids = [
        Signer(1).sign(SWAP, 100).id,
        Signer(2).sign(SWAP, 100).id,
        Signer(1).sign(SWAP, 101).id,
        Signer(1).sign(replace(SWAP, attempt=3), 100).id,
        Signer(1).sign(replace(SWAP, minimum_out=24), 100).id,
        Signer(1).sign(replace(SWAP, maximum_in=151), 100).id,
        Signer(1).sign(replace(SWAP, route=replace(ROUTE, paths=ROUTE.paths[:1])), 100).id,
    ]
    assert len(set(ids)) == len(ids)
    assert Signer(1).sign(SWAP, 100).id == ids[0]
