"""The records of a kept chain: what it began with, its accounts, its blocks, and where forks left it.

A block's record has the accounts that it wrote and what each of its transactions did, so that nothing need be
executed again: another version of the doubles would do something else. Most blocks are empty, and short.
"""

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.sandbox.accounts import StoredAccount
from service.sandbox.blocks import Balances, Block, Landed, TokenBalance
from service.sandbox.budget import Budget
from service.sandbox.machine import ExecutionResult
from service.sandbox.runs import InnerCall

Accounts = Mapping[Pubkey, StoredAccount | None]

_EMPTY = struct.Struct("<QQ")
_ORIGIN, _ACCOUNTS, _BLOCK, _EMPTY_BLOCK, _PLACE = b"G", b"A", b"B", b"E", b"P"
# The data of accounts are mostly zeros; a higher level takes longer than it saves.
_COMPRESSION = 1


@dataclass(frozen=True, slots=True)
class ChainOrigin:
    """What makes a chain: the same values make the same identity, wallet and pools.

    Attributes:
        seed: Of its genesis.
        time_s: Unix time of its first block.
        start: What tells it from another one of the same second.
        finalized_after: Slots after which a block is finalized.
    """

    seed: int
    time_s: int
    start: str
    finalized_after: int


class KeptAccounts(NamedTuple):
    """The accounts before the blocks that follow."""

    accounts: Accounts


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """A block, with what it wrote.

    Attributes:
        height: None: one more than the block's before it.
        parent_slot: None: that block's.
    """

    slot: int
    time_s: int
    height: int | None = None
    parent_slot: int | None = None
    landed: tuple[Landed, ...] = ()
    accounts: Accounts | None = None


class Place(NamedTuple):
    """Where the chain is: blocks after the tip are gone, and the next one has at least this slot."""

    tip: int
    next_slot: int
    finalized: int


Record = ChainOrigin | KeptAccounts | KeptBlock | Place


class Keeper(Protocol):
    """Keeps what happens on a chain, before anybody can read it there."""

    def add_block(self, block: Block, accounts: Accounts) -> None:
        """Keep the next block, and the accounts that it wrote.

        Raises:
            OSError: It is not kept, and there is no such block.
        """

    def add_place(self, place: Place) -> None:
        """Keep where a fork left the chain."""


def encode(record: Record) -> bytes:
    """Return a record's bytes."""
    match record:
        case ChainOrigin():
            return _ORIGIN + _packed(asdict(record))
        case KeptAccounts():
            return _ACCOUNTS + _packed(_accounts_json(record.accounts))
        case Place():
            return _PLACE + _packed(list(record))
        case KeptBlock(height=None, landed=(), accounts=None):
            return _EMPTY_BLOCK + _EMPTY.pack(record.slot, record.time_s)
    body = {
        "slot": record.slot,
        "time": record.time_s,
        "height": record.height,
        "parent": record.parent_slot,
        "landed": [_landed_json(each) for each in record.landed],
        "accounts": _accounts_json(record.accounts or {}),
    }
    return _BLOCK + _packed(body)


def decode(body: bytes) -> Record:
    """Return a record."""
    kind, rest = body[:1], body[1:]
    if kind == _EMPTY_BLOCK:
        return KeptBlock(*_EMPTY.unpack(rest))
    found = json.loads(zlib.decompress(rest))
    if kind == _ORIGIN:
        return ChainOrigin(**found)
    if kind == _ACCOUNTS:
        return KeptAccounts(_accounts(found))
    if kind == _PLACE:
        return Place(*found)
    slot, time_s = found["slot"], found["time"]
    landed = tuple(_landed(each, slot, time_s) for each in found["landed"])
    return KeptBlock(slot, time_s, found["height"], found["parent"], landed, _accounts(found["accounts"]))


def _packed(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), _COMPRESSION)


def _accounts_json(accounts: Accounts) -> dict[str, Any]:
    return {
        str(key): None
        if account is None
        else [account.lamports, str(account.owner), _text(account.data), account.executable]
        for key, account in accounts.items()
    }


def _accounts(found: dict[str, Any]) -> Accounts:
    return {
        Pubkey.from_string(key): None
        if each is None
        else StoredAccount(each[0], Pubkey.from_string(each[1]), base64.b64decode(each[2]), each[3])
        for key, each in found.items()
    }


def _landed_json(landed: Landed) -> dict[str, Any]:
    execution = landed.execution
    return {
        "raw": _text(landed.raw),
        "error": execution.error,
        "budget": asdict(execution.budget),
        "units": execution.units,
        "loaded": execution.loaded_bytes,
        "logs": execution.logs,
        "inner": [
            [index, [[call.program, call.accounts, _text(call.data), call.depth] for call in calls]]
            for index, calls in execution.inner.items()
        ],
        "before": _balances_json(landed.before),
        "after": _balances_json(landed.after),
    }


def _landed(found: dict[str, Any], slot: int, time_s: int) -> Landed:
    raw = base64.b64decode(found["raw"])
    transaction = VersionedTransaction.from_bytes(raw)
    inner = {
        index: [
            InnerCall(program, tuple(accounts), base64.b64decode(data), depth)
            for program, accounts, data, depth in calls
        ]
        for index, calls in found["inner"]
    }
    execution = ExecutionResult(
        found["error"], Budget(**found["budget"]), found["units"], found["loaded"], found["logs"], {}, inner
    )
    signature = str(transaction.signatures[0])
    before, after = _balances(found["before"]), _balances(found["after"])
    return Landed(transaction, raw, signature, slot, time_s, execution, before, after)


def _balances_json(balances: Balances) -> list[Any]:
    tokens = [
        [each.place, str(each.mint), str(each.owner), str(each.program), each.amount, each.decimals]
        for each in balances.tokens
    ]
    return [balances.lamports, tokens]


def _balances(found: list[Any]) -> Balances:
    lamports, tokens = found
    return Balances(
        tuple(lamports),
        tuple(
            TokenBalance(
                place,
                Pubkey.from_string(mint),
                Pubkey.from_string(owner),
                Pubkey.from_string(program),
                amount,
                decimals,
            )
            for place, mint, owner, program, amount, decimals in tokens
        ),
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
