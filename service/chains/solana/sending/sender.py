"""Sends a transaction's bytes to every endpoint that takes transactions.

Nothing is checked by the node before: the simulation before signing was the check, so every send of the same
bytes is the same act, and no refusal needs an interpretation. The node does not send again by itself either;
the tracker does. What a node answers is a hint for an operator: only a status says what happened.
"""

import base64
import logging

from service.chains.solana.rpc.answers import Answer
from service.chains.solana.rpc.endpoints import Endpoints

log = logging.getLogger(__name__)

# Older nodes look at the preflight's commitment even if it is skipped.
_CONFIG = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0, "preflightCommitment": "processed"}


class Sender:
    """Sends transactions.

    Args:
        endpoints: Those of the cluster.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def send(self, signature: str, raw: bytes) -> int:
        """Send a transaction; sending it again changes nothing.

        Args:
            signature: Its id, for the log.
            raw: Its bytes.

        Returns:
            How many endpoints said that they took it. One that did not may have taken it.
        """
        outcomes = await self._endpoints.send(
            "sendTransaction", [base64.b64encode(raw).decode("ascii"), _CONFIG]
        )
        others = [outcome for outcome in outcomes if not isinstance(outcome, Answer)]
        if len(others) == len(outcomes):
            reasons = "; ".join(map(str, others))
            log.warning("transaction %s: no node said that it took it: %s", signature, reasons)
        return len(outcomes) - len(others)
