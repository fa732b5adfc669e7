"""Sends a transaction's bytes to every endpoint that takes transactions.

Nothing is checked by the node before: the simulation before signing was the check, so every send of the same
bytes is the same act, and no refusal needs an interpretation. The node does not send again by itself either;
the tracker does. What a node answers is a hint for an operator: only a status says what happened.
"""

import base64
import logging

from service.chains.solana.rpc.answers import Answer
from service.chains.solana.rpc.endpoints import REPEAT_TIMEOUT_S, SEND_TIMEOUT_S, Endpoints

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

    async def send(self, signature: str, raw: bytes, *, again: bool = False) -> None:
        """Send a transaction; sending it again changes nothing.

        Args:
            signature: Its id, for the log.
            raw: Its bytes.
            again: Whether it is a repetition. It waits less for slow endpoints, and warns of nothing: in
                an outage there are many.
        """
        outcomes = await self._endpoints.send(
            "sendTransaction",
            [base64.b64encode(raw).decode("ascii"), _CONFIG],
            timeout_s=REPEAT_TIMEOUT_S if again else SEND_TIMEOUT_S,
        )
        others = [outcome for outcome in outcomes if not isinstance(outcome, Answer)]
        if len(others) == len(outcomes):
            level = logging.DEBUG if again else logging.WARNING
            reasons = "; ".join(map(str, others))
            log.log(level, "transaction %s: no node said that it took it: %s", signature, reasons)
