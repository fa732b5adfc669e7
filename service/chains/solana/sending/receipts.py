"""Reads the effect of a transaction in a block, from the first endpoint that can tell it."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.receipt import NoReceiptError, Receipt, read_receipt
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import NoAnswerError, RpcError
from service.chains.solana.sending.flight import SentTransaction
from service.chains.solana.statuses import ConfirmationStatus
from service.chains.venue import VenueUnavailableError

log = logging.getLogger(__name__)

RECEIPT_TIMEOUT_S = 2.0
"""Maximum wait for one endpoint; then the next one is asked."""

_CONFIG = {"encoding": "base64", "maxSupportedTransactionVersion": 1}


async def find_receipt(
    endpoints: Endpoints, programs: AmmPrograms, sent: SentTransaction, commitment: ConfirmationStatus
) -> Receipt | None:
    """Return what a transaction did; None if no endpoint tells everything: nothing is guessed.

    Args:
        endpoints: Those of the cluster.
        programs: The cluster's programs.
        sent: The transaction; an answer with other bytes is not believed.
        commitment: How sure its block must be: confirmed or finalized.
    """
    async for result in _results(endpoints, [sent.signature, {**_CONFIG, "commitment": commitment}]):
        try:
            return read_receipt(result, sent.raw, programs)
        except NoReceiptError as error:
            log.info("transaction %s: no receipt yet: %s", sent.signature, error)
    return None


async def _results(endpoints: Endpoints, params: Sequence[Any]) -> AsyncIterator[Any]:
    """Yield the best endpoint's answer, then those of the others: it may lag, or have pruned it."""
    best = None
    try:
        answer = await endpoints.read("getTransaction", params, timeout_s=RECEIPT_TIMEOUT_S)
    except (RpcError, VenueUnavailableError) as error:
        log.info("no receipt: %s", error)
    else:
        best = answer.endpoint
        yield answer.result
    for endpoint in endpoints.readers:
        if endpoint.name == best:
            continue
        try:
            answer = await endpoint.call("getTransaction", params, timeout_s=RECEIPT_TIMEOUT_S)
        except (RpcError, NoAnswerError):
            continue
        yield answer.result
