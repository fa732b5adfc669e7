"""Subscriptions of one WebSocket connection: what it is told after each block."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from solders.pubkey import Pubkey

from service.sandbox.accounts import StoredAccount
from service.sandbox.blocks import Block
from service.sandbox.errors import CallRefusedError
from service.sandbox.node import Commitment, Node
from service.sandbox.rpc.accounts import Filter, filters_of
from service.sandbox.rpc.encoding import CLOSED, Read, account_json
from service.sandbox.rpc.methods import error_answer, name_and_params, number_of
from service.sandbox.rpc.params import Config, Params, signature

_TOO_LONG = "error: data too large for bs58 encoding"
"""What a node notifies of in place of the data."""


@dataclass(slots=True)
class Subscription:
    """One subscription.

    Attributes:
        topic: ``account``, ``program``, ``signature``, ``slot`` or ``root``.
        commitment: The commitment at which it hears of a block.
        seen: The slot of the last block that it heard of.
        config: How accounts are encoded.
        key: The account or the program.
        filters: The filters of a program's accounts.
        signature: The transaction.
        received: Whether it also hears that the transaction was received.
    """

    topic: str
    commitment: Commitment
    seen: int
    config: Config
    key: Pubkey | None = None
    filters: tuple[Filter, ...] = ()
    signature: str = ""
    received: bool = False


class Subscriptions:
    """The subscriptions of a connection, by their numbers.

    Args:
        node: The endpoint that it is connected to.
        send: Sends a message.
    """

    def __init__(self, node: Node, send: Callable[[dict[str, Any]], None]) -> None:
        self._node = node
        self._send = send
        self._open: dict[int, Subscription] = {}
        self._last = 0

    def call(self, call: Any) -> None:
        """Answer a call, and send what it makes due."""
        number = number_of(call)
        try:
            result = self._result(*name_and_params(call))
        except CallRefusedError as error:
            self._send(error_answer(error, number))
            return
        self._send({"jsonrpc": "2.0", "result": result, "id": number})
        self.notify()

    def _result(self, name: str, params: Params) -> int | bool:
        topic = name.removesuffix("Unsubscribe")
        if topic != name:
            return self._unsubscribe(topic, params)
        topic = name.removesuffix("Subscribe")
        if topic == name or topic not in TOPICS:
            raise CallRefusedError(-32601, "Method not found")
        subscription = TOPICS[topic](self._node, params)
        self._last += 1
        self._open[self._last] = subscription
        return self._last

    def _unsubscribe(self, topic: str, params: Params) -> bool:
        if topic not in TOPICS:
            raise CallRefusedError(-32601, "Method not found")
        number = params.number(0, "the subscription")
        found = self._open.get(number)
        if found is None or found.topic != topic:
            raise CallRefusedError(-32602, "Invalid subscription id.")
        del self._open[number]
        return True

    def notify(self) -> None:
        """Send what has happened since the last call."""
        faults = self._node.faults
        silent = faults.standing("ws_silent") is not None
        messages = [
            message
            for number, subscription in list(self._open.items())
            for message in self._due(number, subscription)
        ]
        if silent:
            return
        if messages and faults.take("ws_reverse") is not None:
            messages.reverse()
        repeats = 2 if messages and faults.take("ws_repeat") is not None else 1
        for message in messages:
            for _ in range(repeats):
                self._send(message)

    def _due(self, number: int, subscription: Subscription) -> list[dict[str, Any]]:
        if subscription.topic == "signature":
            return self._signature(number, subscription)
        block = self._node.block(subscription.commitment)
        messages: list[dict[str, Any]] = []
        for each in self._node.chain.blocks_after(subscription.seen, block.slot):
            messages += [
                _message(subscription.topic, number, result) for result in self._results(subscription, each)
            ]
        subscription.seen = max(subscription.seen, block.slot)
        return messages

    def _results(self, subscription: Subscription, block: Block) -> Iterator[Any]:
        node, config = self._node, subscription.config
        if subscription.topic == "slot":
            root = node.block(Commitment.FINALIZED).slot
            yield {"parent": block.parent_slot, "slot": block.slot, "root": root}
        elif subscription.topic == "root":
            yield block.slot
        elif subscription.topic == "account" and subscription.key in block.changed:
            account = node.account(subscription.key, block) or CLOSED
            yield _at(block, _encoded(account, config, node.reader(block)))
        elif subscription.topic == "program":
            for key in sorted(block.changed, key=bytes):
                found = node.account(key, block)
                if found is None or found.owner != subscription.key:
                    continue
                if all(matches(found.data) for matches in subscription.filters):
                    account_ = _encoded(found, config, node.reader(block))
                    yield _at(block, {"pubkey": str(key), "account": account_})

    def _signature(self, number: int, subscription: Subscription) -> list[dict[str, Any]]:
        node, messages = self._node, []
        tip = node.block(Commitment.PROCESSED)
        if subscription.received and node.landed(subscription.signature, Commitment.PROCESSED) is not None:
            subscription.received = False
            messages.append(_message("signature", number, _at(tip, "receivedSignature")))
        landed = node.landed(subscription.signature, subscription.commitment)
        if landed is not None:
            del self._open[number]
            block = node.block(subscription.commitment)
            messages.append(_message("signature", number, _at(block, {"err": landed.execution.error})))
        return messages


def _encoded(account: StoredAccount, config: Config, read: Read) -> Any:
    try:
        return account_json(account, config, read)
    except CallRefusedError:
        # ``_check_encoding`` has refused everything else: only too much data for base58 is left.
        empty = account_json(replace(account, data=b""), config, read)
        return {**(empty or {}), "data": _TOO_LONG, "space": len(account.data)}


def _check_encoding(node: Node, config: Config, block: Block) -> None:
    """Refuse an encoding that cannot be: a notification has no answer for an error.

    Raises:
        CallRefusedError: It cannot.
    """
    account_json(CLOSED, config, node.reader(block))


def _at(block: Block, value: Any) -> dict[str, Any]:
    return {"context": {"slot": block.slot}, "value": value}


def _message(topic: str, number: int, result: Any) -> dict[str, Any]:
    params = {"result": result, "subscription": number}
    return {"jsonrpc": "2.0", "method": f"{topic}Notification", "params": params}


def _account(node: Node, params: Params) -> Subscription:
    key, config = params.pubkey(0), params.config(1)
    commitment = config.commitment()
    block = node.block(commitment)
    _check_encoding(node, config, block)
    return Subscription("account", commitment, block.slot, config, key)


def _program(node: Node, params: Params) -> Subscription:
    key, config = params.pubkey(0), params.config(1)
    commitment, filters = config.commitment(), tuple(filters_of(config))
    block = node.block(commitment)
    _check_encoding(node, config, block)
    return Subscription("program", commitment, block.slot, config, key, filters)


def _signature(node: Node, params: Params) -> Subscription:
    text, config = signature(params.text(0, "signature")), params.config(1)
    commitment = config.commitment()
    return Subscription(
        "signature",
        commitment,
        node.block(commitment).slot,
        config,
        signature=text,
        received=config.flag("enableReceivedNotification"),
    )


def _slot(node: Node, params: Params) -> Subscription:
    return Subscription("slot", Commitment.PROCESSED, node.block(Commitment.PROCESSED).slot, params.config(0))


def _root(node: Node, params: Params) -> Subscription:
    return Subscription("root", Commitment.FINALIZED, node.block(Commitment.FINALIZED).slot, params.config(0))


TOPICS: Mapping[str, Callable[[Node, Params], Subscription]] = {
    "account": _account,
    "program": _program,
    "root": _root,
    "signature": _signature,
    "slot": _slot,
}
"""What may be subscribed to."""
