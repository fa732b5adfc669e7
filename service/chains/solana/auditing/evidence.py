"""What the nodes know of transactions: what they did, or that they are in no block.

That a node does not know a transaction counts only if it lists all blocks which could hold it, by the rules
of ``service.chains.solana.proof``; then one such node is enough, if no other one knows the transaction.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from service.chains.solana.auditing.nodes import CALLS_AT_ONCE, PAUSES_S, Nodes
from service.chains.solana.auditing.stored import StoredTransaction
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.proof import NOTHING_FINALIZED, Look, Validity
from service.chains.solana.receipt import NoReceiptError, OtherBytesError, Receipt, read_receipt
from service.chains.solana.sending.looks import WINDOW_SLOTS
from service.chains.solana.statuses import MOST_SIGNATURES, SignatureStatus
from service.chains.venue import VenueUnavailableError

TRANSACTION_CONFIG = {"encoding": "base64", "maxSupportedTransactionVersion": 1, "commitment": "finalized"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the nodes know of one transaction.

    Attributes:
        receipt: What it did in a finalized block; None if no node tells that.
        problem: Why not, if a node has it.
        other_bytes: Whether a node has other bytes under its signature, and none has the stored ones.
        status: The block that it is in, if that is known and what it did is not.
        absent: Whether it is in no block: a node that has all of them does not know it, and no node does.
    """

    receipt: Receipt | None = None
    problem: str = ""
    other_bytes: bool = False
    status: SignatureStatus | None = None
    absent: bool = False

    @property
    def slot(self) -> int | None:
        """The slot of the block that it is in; None: none is known."""
        if self.receipt is not None:
            return self.receipt.slot
        return None if self.status is None else self.status.slot

    @property
    def has_traded(self) -> bool:
        """Whether it is in a block and did not fail there."""
        if self.receipt is not None:
            return self.receipt.error is None
        return self.status is not None and not self.status.failed


NOTHING = Evidence()
"""No node says anything about it."""


class EvidenceReader:
    """Asks nodes about transactions.

    Args:
        nodes: The nodes.
        programs: The cluster's programs.
    """

    def __init__(self, nodes: Nodes, programs: AmmPrograms) -> None:
        self._nodes = nodes
        self._programs = programs

    async def of(self, transactions: Sequence[StoredTransaction]) -> dict[str, Evidence]:
        """Return what is known of transactions that have ended, by their signatures.

        Raises:
            VenueUnavailableError: No node answered.
        """
        found = await self.receipts([each for each in transactions if each.was_executed])
        unread = [each for each in transactions if found.get(each.id, NOTHING).receipt is None]
        if unread:
            for signature, seen in (await self._seen(unread)).items():
                found[signature] = replace(
                    found.get(signature, NOTHING), status=seen.status, absent=seen.absent
                )
            in_a_block = [each for each in unread if found.get(each.id, NOTHING).status is not None]
            for signature, told in (await self.receipts(in_a_block)).items():
                found[signature] = replace(told, status=found[signature].status)
        return found

    async def receipts(self, transactions: Sequence[StoredTransaction]) -> dict[str, Evidence]:
        """Return what transactions did in finalized blocks, without a proof if they are in none.

        Raises:
            VenueUnavailableError: No node answered.
        """
        found: dict[str, Evidence] = {}
        for start in range(0, len(transactions), CALLS_AT_ONCE):
            group = transactions[start : start + CALLS_AT_ONCE]
            answers = await asyncio.gather(*map(self._receipt, group))
            found |= {each.id: evidence for each, evidence in zip(group, answers, strict=True)}
        return found

    async def _receipt(self, transaction: StoredTransaction) -> Evidence:
        evidence = NOTHING
        params = [transaction.id, TRANSACTION_CONFIG]
        async with aclosing(self._nodes.answers("getTransaction", params)) as answers:
            async for answer in answers:
                if answer is None:
                    continue
                try:
                    return Evidence(read_receipt(answer, transaction.raw, self._programs))
                except NoReceiptError as error:
                    evidence = Evidence(problem=str(error), other_bytes=isinstance(error, OtherBytesError))
        return evidence

    async def _seen(self, transactions: Sequence[StoredTransaction]) -> dict[str, Evidence]:
        found: dict[str, Evidence] = {}
        validities = {each.id: each.validity for each in transactions if each.validity is not None}
        for group in _groups(validities):
            found |= await self._look(group)
        return found

    async def _look(self, validities: dict[str, Validity]) -> dict[str, Evidence]:
        """Ask all nodes about transactions whose blockhashes are close together."""
        found: dict[str, Evidence] = {}
        left, answered = dict(validities), False
        for pause_s in (*PAUSES_S, None):
            looks = await self._nodes.looks(left)
            answered = answered or any(look.statuses or look.finalized != NOTHING_FINALIZED for look in looks)
            for signature, validity in list(left.items()):
                evidence = _judge(signature, validity, looks)
                if evidence is not NOTHING:
                    found[signature] = evidence
                    del left[signature]
            if pause_s is None or not any(_may_tell_later(left[each], looks) for each in left):
                break
            await self._nodes.pause(pause_s)
        if not answered:
            raise VenueUnavailableError("no endpoint says what became of transactions")
        return found


def _judge(signature: str, validity: Validity, looks: Sequence[Look]) -> Evidence:
    known = [status for look in looks if (status := look.statuses.get(signature)) is not None]
    if known:
        # What is final counts, and of what is not, what has traded.
        return Evidence(status=max(known, key=lambda status: (status.finalized, not status.failed)))
    asked = [look for look in looks if signature in look.statuses]
    if any(look.sees_all_blocks_of(validity) for look in asked):
        return Evidence(absent=True)
    return NOTHING


def _may_tell_later(validity: Validity, looks: Sequence[Look]) -> bool:
    """Whether some node did not answer, rather than lack the blocks."""
    kept = [look.kept.get(validity) for look in looks]
    return any(each is None or not each.begin_too_late_for(validity) for each in kept)


def _groups(validities: dict[str, Validity]) -> list[dict[str, Validity]]:
    """Divide transactions so that a node answers for each group at once."""
    groups: list[dict[str, Validity]] = []
    first_slot = 0
    for signature, validity in sorted(validities.items(), key=lambda item: item[1].blockhash_slot):
        slot = validity.blockhash_slot
        if not groups or len(groups[-1]) == MOST_SIGNATURES or slot - first_slot > WINDOW_SLOTS:
            groups.append({})
            first_slot = slot
        groups[-1][signature] = validity
    return groups
