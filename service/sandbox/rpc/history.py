"""Methods that tell what became of transactions."""

from typing import Any

from solders.pubkey import Pubkey

from service.chains.solana.addresses import MEMO_PROGRAM
from service.sandbox.blocks import Landed
from service.sandbox.errors import CallRefusedError, invalid_params
from service.sandbox.messages import version_of
from service.sandbox.node import Commitment, Node
from service.sandbox.rpc.cluster import context
from service.sandbox.rpc.encoding import meta_json, transaction_json
from service.sandbox.rpc.params import Config, Params, signature

_MOST_STATUSES = 256
_MOST_SIGNATURES = 1_000


def get_signature_statuses(node: Node, params: Params) -> dict[str, Any]:
    """Return what is known of up to 256 signatures."""
    texts = [signature(text) for text in params.texts(0, "signatures", _MOST_STATUSES)]
    search = params.config(1).flag("searchTransactionHistory")
    tip = node.block(Commitment.PROCESSED)
    return context(tip, [_status(node, text, search=search) for text in texts])


def _status(node: Node, text: str, *, search: bool) -> dict[str, Any] | None:
    landed = node.landed(text, Commitment.PROCESSED)
    if landed is None or not (search or node.is_in_status_cache(landed)):
        return None
    error = landed.execution.error
    return {
        "slot": landed.slot,
        "confirmations": node.confirmations(landed),
        "err": error,
        "status": {"Ok": None} if error is None else {"Err": error},
        "confirmationStatus": node.commitment_of(landed),
    }


def get_transaction(node: Node, params: Params) -> dict[str, Any] | None:
    """Return a transaction with its metadata; None if the node does not know it."""
    text, config = signature(params.text(0, "signature")), params.config(1)
    landed = node.landed(text, _settled(config))
    if landed is None:
        return None
    version, most = version_of(landed.transaction), config.number("maxSupportedTransactionVersion")
    if isinstance(version, int) and (most is None or version > most):
        raise CallRefusedError(
            -32015,
            f"Transaction version ({version}) is not supported by the requesting client. Please try the "
            "request again with the following configuration parameter: "
            f'"maxSupportedTransactionVersion": {version}',
        )
    answer = {
        "slot": landed.slot,
        "blockTime": landed.time_s,
        "transaction": transaction_json(landed, config.text("encoding") or "json"),
        "meta": meta_json(landed),
    }
    return answer if most is None else {**answer, "version": version}


def get_signatures_for_address(node: Node, params: Params) -> list[dict[str, Any]]:
    """Return the transactions that name an address, the newest first."""
    key, config = params.pubkey(0), params.config(1)
    least = _settled(config)
    config.block(node)
    limit = config.number("limit")
    limit = _MOST_SIGNATURES if limit is None else limit
    if not 1 <= limit <= _MOST_SIGNATURES:
        raise invalid_params(f"Invalid limit; max {_MOST_SIGNATURES}")
    known = [each for each in _newest_first(node, key) if node.landed(each.signature, least) is not None]
    start = 0
    before, until = config.text("before"), config.text("until")
    if before is not None:
        start = _position(known, signature(before)) + 1
    found: list[dict[str, Any]] = []
    for landed in known[start:]:
        if landed.signature == until or len(found) == limit:
            break
        found.append(_signature_json(node, landed))
    return found


def _newest_first(node: Node, key: Pubkey) -> list[Landed]:
    return list(reversed(node.chain.landed_of(key)))


def _position(known: list[Landed], text: str) -> int:
    for position, landed in enumerate(known):
        if landed.signature == text:
            return position
    raise CallRefusedError(-32020, f"Transaction {text} not found")


def _settled(config: Config) -> Commitment:
    commitment = config.commitment()
    if commitment is Commitment.PROCESSED:
        raise invalid_params("Method does not support commitment below `confirmed`")
    return commitment


def _signature_json(node: Node, landed: Landed) -> dict[str, Any]:
    return {
        "signature": landed.signature,
        "slot": landed.slot,
        "err": landed.execution.error,
        "memo": _memo(landed),
        "blockTime": landed.time_s,
        "confirmationStatus": node.commitment_of(landed),
    }


def _memo(landed: Landed) -> str | None:
    message = landed.transaction.message
    memos = [
        f"[{len(each.data)}] {each.data.decode(errors='replace')}"
        for each in message.instructions
        if message.account_keys[each.program_id_index] == MEMO_PROGRAM
    ]
    return "; ".join(memos) or None
