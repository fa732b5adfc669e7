"""What one endpoint says of transactions that may have ended: three calls, in the sequence of the proof.

What it answers with an error proves nothing, and does not hide what it does answer: an endpoint that knows a
signature outweighs those that do not. One that does not answer at all is not waited for three times, and what
one that lags by far does not know proves nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from service.chains.solana.proof import NOTHING_FINALIZED, FinalizedBlock, Look
from service.chains.solana.rpc.endpoint import Endpoint
from service.chains.solana.rpc.endpoints import PROOF_LAG_SLOTS
from service.chains.solana.rpc.errors import NoAnswerError, RpcError
from service.chains.solana.statuses import (
    MOST_SIGNATURES,
    MalformedStatusError,
    SignatureStatus,
    read_statuses,
)
from service.domain.amounts import U64_MAX

LOOK_TIMEOUT_S = 2.0
"""Maximum wait for each of the three answers: the others' are waiting for them."""


async def look(endpoint: Endpoint, signatures: Sequence[str]) -> Look:
    """Ask an endpoint for its finalized block, then for the statuses, then for its oldest block."""
    finalized, first_block, status_slot = NOTHING_FINALIZED, U64_MAX, U64_MAX
    statuses: dict[str, SignatureStatus | None] = {}
    with suppress(NoAnswerError):
        finalized = await _finalized(endpoint)
        for start in range(0, len(signatures), MOST_SIGNATURES):
            found, slot = await _statuses(endpoint, signatures[start : start + MOST_SIGNATURES])
            statuses.update(found)
            status_slot = min(status_slot, slot)
        first_block = await _first_block(endpoint)
    if endpoint.lag > PROOF_LAG_SLOTS:
        finalized = NOTHING_FINALIZED
    return Look(endpoint.name, finalized, status_slot, statuses, first_block)


async def _result(endpoint: Endpoint, method: str, *params: Any) -> tuple[Any, int | None]:
    """Return an answer's result and slot; None for an error.

    Raises:
        NoAnswerError: None came.
    """
    try:
        answer = await endpoint.call(method, params, timeout_s=LOOK_TIMEOUT_S)
    except RpcError:
        return None, None
    return answer.result, answer.slot


async def _finalized(endpoint: Endpoint) -> FinalizedBlock:
    """Return the last finalized block. One call answers both numbers: of one block."""
    result, _ = await _result(endpoint, "getEpochInfo", {"commitment": "finalized"})
    match result:
        case {"absoluteSlot": int(slot), "blockHeight": int(height)}:
            return FinalizedBlock(slot, height)
    return NOTHING_FINALIZED


async def _statuses(
    endpoint: Endpoint, signatures: Sequence[str]
) -> tuple[dict[str, SignatureStatus | None], int]:
    """Return the statuses in an endpoint's whole history, and their slot."""
    result, slot = await _result(
        endpoint, "getSignatureStatuses", signatures, {"searchTransactionHistory": True}
    )
    try:
        statuses = read_statuses(result, len(signatures))
    except MalformedStatusError:
        return {}, U64_MAX
    # Without a slot it is not known how old they are.
    return dict(zip(signatures, statuses, strict=True)), 0 if slot is None else slot


async def _first_block(endpoint: Endpoint) -> int:
    """Return the oldest block's slot; a very late one if the endpoint does not say."""
    result, _ = await _result(endpoint, "getFirstAvailableBlock")
    return result if type(result) is int else U64_MAX
