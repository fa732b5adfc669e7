"""Methods that send and simulate transactions."""

from typing import Any

from solders.hash import Hash
from solders.transaction import VersionedTransaction

from service.sandbox.blocks import Balances, Block, balances
from service.sandbox.errors import CallRefusedError, TransactionRefusedError, error_text, invalid_params
from service.sandbox.machine import ExecutionResult
from service.sandbox.mempool import MAX_AGE
from service.sandbox.node import Commitment, Node
from service.sandbox.rpc.cluster import check_health, context
from service.sandbox.rpc.encoding import account_json, inner_json, token_balances_json
from service.sandbox.rpc.params import Config, Params, pubkey
from service.sandbox.rpc.wire import Sent, decode_transaction, is_signed, verify

# What the result of a preflight does not have.
_ABSENT = {"accounts": None, "innerInstructions": None, "replacementBlockhash": None}


def send_transaction(node: Node, params: Params) -> str:
    """Pass a transaction on to the leaders, and return its signature.

    Without the preflight nothing is checked: what cannot land is dropped without a word, as by a leader.
    """
    config = params.config(1)
    sent = decode_transaction(params.text(0, "transaction"), config.text("encoding") or "base58")
    transaction = sent.transaction
    if not config.flag("skipPreflight"):
        verify(transaction)
        check_health(node)
        _preflight(node, transaction, config.block(node, "preflightCommitment"))
    dropped = node.faults.take("drop", "sendTransaction")
    if dropped is None and is_signed(transaction):
        late = node.faults.take("late", "sendTransaction") is not None
        node.chain.submit(transaction, sent.raw, late=late)
    return str(transaction.signatures[0])


def _preflight(node: Node, transaction: VersionedTransaction, block: Block) -> None:
    error, execution = _simulated(node, transaction, block)
    if error is not None:
        value = {**_result(error, execution), **_ABSENT}
        raise CallRefusedError(-32002, f"Transaction simulation failed: {error_text(error)}", value)


def simulate_transaction(node: Node, params: Params) -> dict[str, Any]:
    """Execute a transaction on the accounts of a commitment, and keep nothing."""
    config = params.config(1)
    sent = decode_transaction(params.text(0, "transaction"), config.text("encoding") or "base58")
    replace = config.flag("replaceRecentBlockhash")
    if config.flag("sigVerify"):
        if replace:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        verify(sent.transaction)
    block = config.block(node)
    error, execution = _simulated(node, sent.transaction, block, any_blockhash=replace)
    value = _result(error, execution)
    value["accounts"] = _accounts(node, config.part("accounts"), block, execution)
    value |= _balances(node, sent, block, execution)
    if replace:
        last_valid = block.height + MAX_AGE
        value["replacementBlockhash"] = {
            "blockhash": str(block.blockhash),
            "lastValidBlockHeight": last_valid,
        }
    if not config.flag("innerInstructions"):
        value["innerInstructions"] = None
    return context(block, value)


def _simulated(
    node: Node, transaction: VersionedTransaction, block: Block, *, any_blockhash: bool = False
) -> tuple[Any, ExecutionResult | None]:
    """Return the error, or None, and what was executed, if anything was."""
    blockhash: Hash = transaction.message.recent_blockhash
    if not any_blockhash:
        if not node.chain.is_recent(blockhash, block):
            return "BlockhashNotFound", None
        if node.landed(str(transaction.signatures[0]), Commitment.PROCESSED) is not None:
            return "AlreadyProcessed", None
    try:
        execution = node.chain.simulate(transaction, block)
    except TransactionRefusedError as refused:
        return refused.error, None
    return execution.error, execution


def _result(error: Any, execution: ExecutionResult | None) -> dict[str, Any]:
    return {
        "err": error,
        "fee": None if execution is None else execution.budget.fee,
        "innerInstructions": None if execution is None else inner_json(execution),
        "loadedAccountsDataSize": 0 if execution is None else execution.loaded_bytes,
        "logs": [] if execution is None else execution.logs,
        "returnData": None,
        "unitsConsumed": 0 if execution is None else execution.units,
    }


def _accounts(
    node: Node, wanted: Config | None, block: Block, execution: ExecutionResult | None
) -> list[Any] | None:
    """Return the accounts after the simulation that a client asked for."""
    if wanted is None:
        return None
    found = []
    for text in wanted.items("addresses"):
        if not isinstance(text, str):
            raise invalid_params("Invalid params: addresses must be a list of strings.")
        key = pubkey(text)
        changed = {} if execution is None else execution.changed
        account = changed[key] if key in changed else node.account(key, block)
        found.append(account_json(account, wanted, node.reader(block)))
    return found


def _balances(node: Node, sent: Sent, block: Block, execution: ExecutionResult | None) -> dict[str, Any]:
    """Return what the transaction's accounts hold before and after."""
    before = balances(sent.transaction, node.reader(block))
    changed = {} if execution is None else execution.changed
    after: Balances = balances(
        sent.transaction, lambda key: changed[key] if key in changed else node.account(key, block)
    )
    return {
        "preBalances": list(before.lamports),
        "postBalances": list(after.lamports),
        "preTokenBalances": token_balances_json(before),
        "postTokenBalances": token_balances_json(after),
    }
