"""The paper chain's wire format: signing and parsing."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.signature import Signature

from service.chains.paper.transaction import PathSwap, Signer, decode, decode_message, message_of
from service.chains.venue import Swap
from service.domain.amounts import U64_MAX
from service.domain.leg_limits import LegLimits, leg_limits
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
    signed = Signer(1, 5).sign(swap, slot)
    transaction = decode(signed)
    assert (signed.id, signed.dex, signed.last_valid_height) == (transaction.signature, "multiple", slot)
    assert (signed.maximum_in, signed.minimum_out) == (maximum_in, minimum_out)
    assert (transaction.maximum_in, transaction.minimum_out) == (maximum_in, minimum_out)
    assert (transaction.order_id, transaction.attempt) == (swap.order_id, attempt)
    assert (transaction.mode, transaction.last_valid_slot) == (mode, slot)
    assert (transaction.token_in, transaction.token_out) == ("SOL", "JUP")
    fixed = (100, 50) if mode is SwapMode.EXACT_IN else (17, 9)
    assert transaction.paths == (
        PathSwap(
            fixed[0],
            ((FIRST.pool_id, "SOL", "USDC"), (SECOND.pool_id, "USDC", "JUP")),
            transaction.paths[0].limits,
        ),
        PathSwap(fixed[1], ((DIRECT.pool_id, "SOL", "JUP"),), transaction.paths[1].limits),
    )
    assert decode_message(signed.id, message_of(signed)) == transaction


@pytest.mark.parametrize("mode", SwapMode)
def test_the_limits_of_every_leg_are_signed(mode: SwapMode) -> None:
    route = replace(ROUTE, mode=mode)
    maximum_in, minimum_out = (150, 25) if mode is SwapMode.EXACT_IN else (160, 26)
    swap = replace(SWAP, route=route, maximum_in=maximum_in, minimum_out=minimum_out)
    transaction = decode(Signer(1, 1_000).sign(swap, 100))
    assert [path.limits for path in transaction.paths] == list(
        leg_limits(route, maximum_in, minimum_out, 1_000)
    )


def test_limits_that_the_quote_does_not_keep_are_shared_all_the_same() -> None:
    transaction = decode(Signer(1, 0).sign(replace(SWAP, minimum_out=52), 100))
    # Twice what the route is quoted to pay.
    assert [path.limits for path in transaction.paths] == [
        (LegLimits(100, 15), LegLimits(15, 34)),
        (LegLimits(50, 18),),
    ]


def test_a_transaction_of_an_earlier_version_has_no_limits_of_its_legs() -> None:
    """Its message is as version 0.1.0 signed it."""
    message = (
        '{"order_id":"0190a8f5-0000-7000-8000-000000000000","attempt":2,"mode":"exactIn","token_in":"SOL",'
        '"token_out":"JUP","paths":[{"amount":100,"legs":[["meteora:SOL-USDC:dlmm","SOL","USDC"],'
        '["raydium:USDC-JUP:cpmm","USDC","JUP"]]},{"amount":50,"legs":[["raydium:SOL-JUP:cpmm","SOL","JUP"]]}],'
        '"maximum_in":150,"minimum_out":25,"last_valid_slot":100}'
    )
    transaction = decode_message("signature", message)
    assert [path.amount for path in transaction.paths] == [100, 50]
    assert [path.limits for path in transaction.paths] == [None, None]


def test_a_leader_of_an_earlier_version_reads_the_message() -> None:
    # It takes these members and no others, but ignores others within a path.
    message = orjson.loads(message_of(Signer(1, 5).sign(SWAP, 100)))
    assert message.keys() == {
        *("order_id", "attempt", "mode", "token_in", "token_out", "paths"),
        *("maximum_in", "minimum_out", "last_valid_slot"),
    }
    assert [(path["amount"], path["legs"]) for path in message["paths"]] == [
        (100, [[FIRST.pool_id, "SOL", "USDC"], [SECOND.pool_id, "USDC", "JUP"]]),
        (50, [[DIRECT.pool_id, "SOL", "JUP"]]),
    ]


def test_an_attempts_id_is_the_signature_of_its_bytes_in_base58() -> None:
    signer = Signer(1, 5)
    signed = signer.sign(SWAP, 100)
    signature = Signature.from_string(signed.id)
    assert bytes(signature) == signed.raw[:64]
    assert signature.verify(signer._keypair.pubkey(), signed.raw[64:])


def test_signing_is_deterministic_and_every_difference_gives_another_id() -> None:
    ids = [
        Signer(1, 5).sign(SWAP, 100).id,
        Signer(2, 5).sign(SWAP, 100).id,
        Signer(1, 5).sign(SWAP, 101).id,
        Signer(1, 1_000).sign(SWAP, 100).id,
        Signer(1, 5).sign(replace(SWAP, attempt=3), 100).id,
        Signer(1, 5).sign(replace(SWAP, minimum_out=24), 100).id,
        Signer(1, 5).sign(replace(SWAP, maximum_in=151), 100).id,
        Signer(1, 5).sign(replace(SWAP, route=replace(ROUTE, paths=ROUTE.paths[:1])), 100).id,
    ]
    assert len(set(ids)) == len(ids)
    assert Signer(1, 5).sign(SWAP, 100).id == ids[0]
