"""Blocks of the sandbox chain, and the transactions in them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount
from service.sandbox.accounts import StoredAccount
from service.sandbox.machine import ExecutionResult

_DECIMALS_AT = 44


class TokenBalance(NamedTuple):
    """A token account's balance; ``place`` is the account's among the transaction's."""

    place: int
    mint: Pubkey
    owner: Pubkey
    program: Pubkey
    amount: int
    decimals: int


class Balances(NamedTuple):
    """What a transaction's accounts hold: lamports in their sequence, and tokens."""

    lamports: tuple[int, ...]
    tokens: tuple[TokenBalance, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Landed:
    """A transaction in a block."""

    transaction: VersionedTransaction
    raw: bytes
    signature: str
    slot: int
    time_s: int
    execution: ExecutionResult
    before: Balances
    after: Balances


@dataclass(frozen=True, slots=True)
class Block:
    """A block.

    Attributes:
        slot: Its slot; slots without a block are skipped.
        height: How many blocks were before it.
        blockhash: What transactions name as recent.
        parent_slot: The block's before it.
        time_s: Unix time.
        landed: Its transactions, in their sequence.
        changed: The accounts that it wrote.
    """

    slot: int
    height: int
    blockhash: Hash
    parent_slot: int
    time_s: int
    landed: tuple[Landed, ...] = ()
    changed: frozenset[Pubkey] = frozenset()


def balances(transaction: VersionedTransaction, read: Callable[[Pubkey], StoredAccount | None]) -> Balances:
    """Return what the accounts of a transaction hold."""
    lamports, tokens = [], []
    for place, key in enumerate(transaction.message.account_keys):
        account = read(key)
        lamports.append(0 if account is None else account.lamports)
        if account is None or account.owner not in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM):
            continue
        if len(account.data) < TOKEN_ACCOUNT_BYTES or account.executable:
            continue
        mint = Pubkey.from_bytes(account.data[:32])
        found = read(mint)
        if found is not None:
            owner = Pubkey.from_bytes(account.data[32:64])
            amount = token_amount(account.data)
            tokens.append(TokenBalance(place, mint, owner, account.owner, amount, found.data[_DECIMALS_AT]))
    return Balances(tuple(lamports), tuple(tokens))
