"""The methods by name, and the answer to a call."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from service.sandbox.errors import CallRefusedError
from service.sandbox.node import Node
from service.sandbox.rpc import accounts, cluster, history, sending
from service.sandbox.rpc.params import Params

log = logging.getLogger(__name__)

Method = Callable[[Node, Params], Any]

METHODS: Mapping[str, Method] = {
    "getAccountInfo": accounts.get_account_info,
    "getBalance": accounts.get_balance,
    "getBlock": cluster.get_block,
    "getBlockHeight": cluster.get_block_height,
    "getBlockTime": cluster.get_block_time,
    "getBlocks": cluster.get_blocks,
    "getEpochInfo": cluster.get_epoch_info,
    "getFirstAvailableBlock": cluster.get_first_available_block,
    "getGenesisHash": cluster.get_genesis_hash,
    "getHealth": cluster.get_health,
    "getLatestBlockhash": cluster.get_latest_blockhash,
    "getMinimumBalanceForRentExemption": cluster.get_rent,
    "getMultipleAccounts": accounts.get_multiple_accounts,
    "getProgramAccounts": accounts.get_program_accounts,
    "getRecentPrioritizationFees": cluster.get_recent_prioritization_fees,
    "getSignatureStatuses": history.get_signature_statuses,
    "getSignaturesForAddress": history.get_signatures_for_address,
    "getSlot": cluster.get_slot,
    "getTokenAccountBalance": accounts.get_token_account_balance,
    "getTokenAccountsByOwner": accounts.get_token_accounts_by_owner,
    "getTransaction": history.get_transaction,
    "getVersion": cluster.get_version,
    "isBlockhashValid": cluster.is_blockhash_valid,
    "sendTransaction": sending.send_transaction,
    "simulateTransaction": sending.simulate_transaction,
}
"""Every method; docs/solana.md lists them."""


def answer(node: Node, call: Any) -> dict[str, Any]:
    """Return the answer to a call, an error included."""
    number = number_of(call)
    try:
        return {"jsonrpc": "2.0", "result": _result(node, call), "id": number}
    except CallRefusedError as error:
        return error_answer(error, number)
    except Exception:
        log.exception("sandbox: internal error")
        return error_answer(CallRefusedError(-32603, "Internal error"), number)


def _result(node: Node, call: Any) -> Any:
    name, params = name_and_params(call)
    method = METHODS.get(name)
    if method is None:
        raise CallRefusedError(-32601, "Method not found")
    fault = node.faults.take("error", name)
    if fault is not None:
        raise CallRefusedError(fault.number("code"), str(fault.arguments["message"]))
    return method(node, params)


def number_of(call: Any) -> Any:
    """Return the id of a call, which its answer repeats."""
    return call.get("id") if isinstance(call, dict) else None


def name_and_params(call: Any) -> tuple[str, Params]:
    """Return the method and the parameters of a call.

    Raises:
        CallRefusedError: It is not a call.
    """
    match call:
        case {"jsonrpc": "2.0", "method": str(name), **rest}:
            params = rest.get("params")
            if params is None or isinstance(params, list):
                return name, Params(params or [])
            raise CallRefusedError(-32602, "Invalid params: the parameters must be a list.")
    raise CallRefusedError(-32600, "Invalid request")


def error_answer(error: CallRefusedError, number: Any = None) -> dict[str, Any]:
    """Return the answer to a call that failed."""
    return {"jsonrpc": "2.0", "error": error.as_json(), "id": number}
