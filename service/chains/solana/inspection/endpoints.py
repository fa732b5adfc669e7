"""Checks of each endpoint: what it answers, and whether the service can use it.

Every endpoint is asked itself, without the failover of reads.
"""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey
from solders.signature import Signature

from service.chains.inspection import Check
from service.chains.solana.inspection.probe import probe_of
from service.chains.solana.proof import NOTHING_FINALIZED, KeptBlocks, Validity
from service.chains.solana.rpc.answers import Answer
from service.chains.solana.rpc.endpoint import Endpoint
from service.chains.solana.rpc.endpoints import PROOF_LAG_SLOTS, QUOTE_LAG_SLOTS, Outcome
from service.chains.solana.rpc.errors import METHOD_NOT_FOUND, NoAnswerError, RpcError
from service.chains.solana.sending.looks import look

PROOF_SLOTS = 200
"""How far back a node must know every block: a transaction can land for 151, and slots may be empty."""

# Of an unlimited endpoint, and at most of any: enough to notice a limit, and no load.
_BURST, _LARGEST_BURST = 10, 20
# What no transaction has: 64 bytes of zero.
_NO_SIGNATURE = str(Signature.default())
_REFUSED_VERSIONS = ("UnsupportedVersion", "SanitizeFailure")
_TOO_MANY = (429, -32429)


@dataclass(frozen=True, slots=True)
class EndpointIdentity:
    """Which cluster an endpoint says that it belongs to, and which software it runs."""

    endpoint: Endpoint
    genesis: Outcome
    version: Outcome

    @property
    def genesis_hash(self) -> str | None:
        """The cluster's; None if it does not say."""
        genesis = self.genesis
        return genesis.result if isinstance(genesis, Answer) and isinstance(genesis.result, str) else None


async def ask(endpoint: Endpoint, method: str, *params: Any) -> Outcome:
    """Return what came of a call."""
    try:
        return await endpoint.call(method, params)
    except (RpcError, NoAnswerError) as error:
        return error


async def identify(endpoint: Endpoint) -> EndpointIdentity:
    """Ask an endpoint for its cluster and its version; one that does not answer is asked only once."""
    genesis = await ask(endpoint, "getGenesisHash")
    version = genesis if isinstance(genesis, NoAnswerError) else await ask(endpoint, "getVersion")
    return EndpointIdentity(endpoint, genesis, version)


def check_identity(identity: EndpointIdentity, expected: str | None, cluster: str) -> Check:
    """Return whether an endpoint answers, and belongs to the cluster.

    Args:
        identity: What it says.
        expected: The cluster's genesis hash; None if no endpoint has said one.
        cluster: The cluster's name.
    """
    name, genesis = identity.endpoint.name, identity.genesis
    if isinstance(genesis, NoAnswerError):
        remedy = "check its URL, its key, and that it can be reached from this machine"
        return Check.failed("endpoint", name, f"no answer: {genesis.reason}", remedy)
    if isinstance(genesis, RpcError):
        found = f"it does not say which cluster it belongs to: {genesis}"
        if identity.endpoint.reads:
            return Check.failed("endpoint", name, found, "use an endpoint that answers getGenesisHash")
        remedy = f"make sure that it is one of {cluster}: transactions are sent to it"
        return Check.warning("endpoint", name, found, remedy)
    found_hash = identity.genesis_hash
    if found_hash is None or found_hash != expected:
        remedy = f"remove it from SOLANA_RPC_URLS, or set SOLANA_CLUSTER; with {cluster} it is never used"
        shown = "none" if found_hash is None else found_hash[:44]
        return Check.failed("endpoint", name, f"another cluster: its genesis hash is {shown}", remedy)
    found = f"answers in {identity.endpoint.latency_s * 1000:.0f} ms, belongs to {cluster}"
    match identity.version:
        case Answer(result={"solana-core": str(version)}):
            return Check.ok("endpoint", name, f"{found}, runs version {version}")
    return Check.ok("endpoint", name, f"{found}, does not say its version")


def check_lag(endpoint: Endpoint) -> Check:
    """Return how far an endpoint is behind, as of the last look at all of them."""
    name, lag = endpoint.name, endpoint.lag
    if not endpoint.slot:
        return Check.failed("lag", name, "it does not say its slot", "use an endpoint that answers getSlot")
    if lag <= QUOTE_LAG_SLOTS:
        return Check.ok("lag", name, f"{lag} slots behind the newest of all endpoints")
    remedy = "wait until it has caught up, or use another one"
    if lag <= PROOF_LAG_SLOTS:
        return Check.warning("lag", name, f"{lag} slots behind: it is not read from", remedy)
    return Check.failed("lag", name, f"{lag} slots behind: neither read from nor believed", remedy)


async def check_version_1(endpoint: Endpoint, payer: Pubkey, accounts: Sequence[str]) -> Check:
    """Return whether an endpoint simulates and reads transactions of version 1.

    Args:
        endpoint: The endpoint.
        payer: Any address.
        accounts: Where to look for a transaction to read.
    """
    name, remedy = endpoint.name, "use an endpoint whose node runs Agave 4.2 or newer"
    simulated = await ask(
        endpoint,
        "simulateTransaction",
        base64.b64encode(probe_of(payer).signed_bytes + bytes(Signature.LENGTH)).decode(),
        {
            "encoding": "base64",
            "sigVerify": False,
            "replaceRecentBlockhash": True,
            "commitment": "processed",
        },
    )
    problem = _simulation_problem(simulated)
    if problem is not None:
        return Check.failed("version 1", name, f"it does not simulate it: {problem}", remedy)
    read = await ask(
        endpoint,
        "getTransaction",
        await _some_signature(endpoint, accounts),
        {"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 1},
    )
    if not isinstance(read, Answer):
        return Check.failed("version 1", name, f"it does not read transactions: {read}", remedy)
    version = read.result.get("version") if isinstance(read.result, dict) else None
    seen = "found no transaction to read" if version is None else f"read one of version {version}"
    return Check.ok("version 1", name, f"simulates it, and allows to read it ({seen})")


def _simulation_problem(simulated: Outcome) -> str | None:
    """Return why a transaction of version 1 was not understood; whether it would succeed does not matter."""
    match simulated:
        case Answer(result={"err": error}):
            return str(error) if any(each in str(error) for each in _REFUSED_VERSIONS) else None
        case Answer():
            return "it answered without a result"
    return str(simulated)


async def _some_signature(endpoint: Endpoint, accounts: Sequence[str]) -> str:
    """Return the signature of a transaction, or of none if the accounts have none."""
    for account in accounts:
        said = await ask(endpoint, "getSignaturesForAddress", account, {"limit": 1})
        match said:
            case Answer(result=[{"signature": str(signature)}, *_]):
                return signature
    return _NO_SIGNATURE


async def check_history(endpoint: Endpoint, *, is_young: bool) -> tuple[Check, bool]:
    """Return whether an endpoint's answers could prove that a transaction has expired.

    Its history is asked for in the same way as for the proof of a transaction that never was.

    Args:
        endpoint: The endpoint.
        is_young: Whether the chain itself may be younger than a transaction's life.
    """
    name = endpoint.name
    info = await ask(endpoint, "getEpochInfo", {"commitment": "finalized"})
    first = await ask(endpoint, "getFirstAvailableBlock")
    match info, first:
        case Answer(result={"absoluteSlot": int(slot), "blockHeight": int(height)}), Answer(
            result=int(since)
        ):
            pass
        case _:
            found = "it does not say its last finalized block, or its first one"
            return Check.failed("history", name, found, "use another endpoint"), False
    begin = max(0, slot - PROOF_SLOTS)
    validity = Validity(height - 1, max(begin, since) if is_young else begin)
    seen = await look(endpoint, {_NO_SIGNATURE: validity})
    if _NO_SIGNATURE in seen.statuses and seen.sees_all_blocks_of(validity):
        found = (
            f"every block of the last {slot - validity.blockhash_slot} slots; it begins {slot - since} ago"
        )
        return Check.ok("history", name, found), True
    if seen.finalized == NOTHING_FINALIZED:
        problem = "it is too far behind"
    elif _NO_SIGNATURE not in seen.statuses:
        problem = "it does not search its history for signatures"
    else:
        problem = _missing_blocks(seen.kept.get(validity), validity, slot - since)
    remedy = "use an endpoint with history; until then it cannot prove that a transaction has expired"
    return Check.warning("history", name, problem, remedy), False


def _missing_blocks(kept: KeptBlocks | None, validity: Validity, slots: int) -> str:
    if kept is None:
        return "it does not list its blocks"
    if kept.begin_too_late_for(validity):
        return f"it has the blocks of the last {max(0, slots)} slots only, and needs those of {PROOF_SLOTS}"
    missing = kept.last.height - kept.first.height + 1 - len(kept.slots)
    return f"{missing} blocks of the last {PROOF_SLOTS} slots are missing"


async def check_sends(endpoint: Endpoint) -> Check:
    """Return whether an endpoint takes transactions, by one byte that is none."""
    name = endpoint.name
    said = await ask(endpoint, "sendTransaction", "AA==", {"encoding": "base64", "skipPreflight": True})
    if isinstance(said, RpcError) and said.code == METHOD_NOT_FOUND:
        remedy = "write #read after its URL, and use another one to send"
        return Check.failed("sends", name, "it takes no transactions", remedy)
    if isinstance(said, NoAnswerError):
        # Some answer a malformed call with an error of HTTP.
        remedy = "try it with a small order, or use another one to send"
        return Check.warning("sends", name, f"not certain that it takes transactions: {said.reason}", remedy)
    return Check.ok("sends", name, "it takes transactions (none was sent)")


async def check_calls(endpoint: Endpoint, rps: int | None) -> Check:
    """Return whether an endpoint answers as many calls as it is to be sent, tried by a few at once.

    It may have to be left alone for a while afterwards, so this is the last check.

    Args:
        endpoint: The endpoint.
        rps: Its calls per second as configured; None: no limit.
    """
    name, count = endpoint.name, min(rps or _BURST, _LARGEST_BURST)
    said = await asyncio.gather(
        *(ask(endpoint, "getSlot", {"commitment": "confirmed"}) for _ in range(count))
    )
    refused = sum(_is_too_many(each) for each in said)
    allowed = "without a limit of its own" if rps is None else f"with ;rps={rps}"
    if refused:
        remedy = "write ;rps= and what your plan allows after its URL" if rps is None else "lower its ;rps="
        return Check.warning("calls", name, f"{refused} of {count} calls were too many ({allowed})", remedy)
    answered = sum(isinstance(each, Answer) for each in said)
    if answered < count:
        remedy = "check that it can be reached, and its plan"
        return Check.warning("calls", name, f"answered {answered} of {count} calls ({allowed})", remedy)
    return Check.ok("calls", name, f"answered {count} calls at once ({allowed})")


def _is_too_many(outcome: Outcome) -> bool:
    if isinstance(outcome, RpcError):
        return outcome.code in _TOO_MANY
    return isinstance(outcome, NoAnswerError) and "429" in outcome.reason
