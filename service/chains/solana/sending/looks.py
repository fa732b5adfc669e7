"""What one endpoint says of transactions that may have ended, by calls in the sequence of the proof.

What it answers with an error proves nothing, and does not hide what it does answer: an endpoint that knows a
signature outweighs those that do not. One that does not answer at all is not called again, and what
one that lags by far does not know proves nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from service.chains.solana.proof import NOTHING_FINALIZED, FinalizedBlock, KeptBlocks, Look, Validity
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
"""Maximum wait for each of the answers: the others' are waiting for them."""

WINDOW_SLOTS = 10_000
"""So many slots after a blockhash's, its last valid block is there, unless hardly any leader makes a block.

One look is at transactions whose blockhashes are at most so many slots apart. Twice as many are far from the
slots that a node lists at once.
"""

MOST_LISTED_SLOTS = 500_000
"""So many slots a node lists at once."""

# Two million slots further, a chain that still has not made 151 blocks stands still.
_MOST_LISTS = 5

_HEADER = {
    "commitment": "finalized",
    "transactionDetails": "none",
    "rewards": False,
    "maxSupportedTransactionVersion": 1,
}


async def look(endpoint: Endpoint, validities: Mapping[str, Validity]) -> Look:
    """Ask an endpoint for its finalized block, then for the statuses, then for the blocks that it has.

    Args:
        endpoint: The endpoint.
        validities: Where each transaction can land, by signature; at least one.
    """
    finalized, status_slot = NOTHING_FINALIZED, U64_MAX
    kept: dict[Validity, KeptBlocks] = {}
    signatures = list(validities)
    statuses: dict[str, SignatureStatus | None] = {}
    with suppress(NoAnswerError):
        finalized = await _finalized(endpoint)
        for start in range(0, len(signatures), MOST_SIGNATURES):
            found, slot = await _statuses(endpoint, signatures[start : start + MOST_SIGNATURES])
            statuses.update(found)
            status_slot = min(status_slot, slot)
        over = {each for each in validities.values() if finalized.is_after(each)}
        await _find_kept_blocks(endpoint, over, finalized, kept)
    if endpoint.foreign or endpoint.lag > PROOF_LAG_SLOTS:
        finalized = NOTHING_FINALIZED
    return Look(endpoint.name, finalized, status_slot, statuses, kept)


class RecentStatuses(NamedTuple):
    """What an endpoint knows of transactions without looking into its history, and from which slot."""

    statuses: Mapping[str, SignatureStatus | None]
    slot: int


async def recent_statuses(endpoint: Endpoint, signatures: Sequence[str]) -> RecentStatuses:
    """Ask an endpoint for what it knows of at most 256 signatures; empty if it does not answer."""
    with suppress(NoAnswerError):
        return RecentStatuses(*await _statuses(endpoint, signatures, search=False))
    return RecentStatuses({}, 0)


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
    endpoint: Endpoint, signatures: Sequence[str], *, search: bool = True
) -> tuple[dict[str, SignatureStatus | None], int]:
    """Return the statuses that an endpoint knows, by default in its whole history, and their slot."""
    result, slot = await _result(
        endpoint, "getSignatureStatuses", signatures, {"searchTransactionHistory": search}
    )
    try:
        statuses = read_statuses(result, len(signatures), slot)
    except MalformedStatusError:
        return {}, U64_MAX
    # Without a slot it is not known how old they are.
    return dict(zip(signatures, statuses, strict=True)), 0 if slot is None else slot


async def _find_kept_blocks(
    endpoint: Endpoint,
    validities: Collection[Validity],
    finalized: FinalizedBlock,
    kept: dict[Validity, KeptBlocks],
) -> None:
    """Find the blocks of validities: all at once, and one by one where a block is missing among them all.

    Otherwise a transaction whose blocks are lost would keep the later ones from being proved. If the first
    block that is left comes too late for one, its own list would begin with the same block.
    """
    if not validities:
        return
    slots = [each.blockhash_slot for each in validities]
    height = max(each.last_valid_height for each in validities)
    together = await _kept_blocks(endpoint, range(min(slots), max(slots) + 1), height, finalized)
    for validity in validities:
        found = together
        if len(validities) > 1 and (
            found is None or not (found.are_all_of(validity) or found.begin_too_late_for(validity))
        ):
            own = range(validity.blockhash_slot, validity.blockhash_slot + 1)
            found = await _kept_blocks(endpoint, own, validity.last_valid_height, finalized)
        if found is not None:
            kept[validity] = found


async def _kept_blocks(
    endpoint: Endpoint, blockhash_slots: range, height: int, finalized: FinalizedBlock
) -> KeptBlocks | None:
    """Return the blocks that an endpoint lists from some slots until one above a height, if it has any."""
    listed: list[int] = []
    start, end = blockhash_slots[0], min(blockhash_slots[-1] + WINDOW_SLOTS, finalized.slot)
    first: tuple[FinalizedBlock, int] | None = None
    last: tuple[FinalizedBlock, int] | None = None
    for _ in range(_MOST_LISTS):
        slots = await _listed(endpoint, start, end)
        if slots is None:
            return None
        listed += slots
        if listed:
            first = first or await _header(endpoint, listed[0])
            last = (finalized, 0) if listed[-1] == finalized.slot else await _header(endpoint, listed[-1])
            if first is None or last is None:
                return None
        if end == finalized.slot or (last is not None and last[0].height > height):
            break
        # Hardly any leader makes a block.
        start, end = end + 1, min(end + MOST_LISTED_SLOTS, finalized.slot)
    if first is None or last is None:
        return None
    return KeptBlocks(first[1], first[0], last[0], listed)


async def _listed(endpoint: Endpoint, start: int, end: int) -> list[int] | None:
    """Return the slots of the blocks that an endpoint has from one slot to another; None: it does not say."""
    slots, _ = await _result(endpoint, "getBlocks", start, end, {"commitment": "finalized"})
    if not isinstance(slots, list) or not all(type(slot) is int for slot in slots):
        return None
    if slots != sorted(set(slots)) or (slots and not start <= slots[0] <= slots[-1] <= end):
        return None
    return slots


async def _header(endpoint: Endpoint, slot: int) -> tuple[FinalizedBlock, int] | None:
    """Return a block and the slot of its parent; None if the endpoint does not say.

    A node has no answer if it has not kept what the block's transactions did, which statuses are made of.
    """
    result, _ = await _result(endpoint, "getBlock", slot, _HEADER)
    match result:
        case {"blockHeight": int(height), "parentSlot": int(parent_slot)}:
            return FinalizedBlock(slot, height), parent_slot
    return None
