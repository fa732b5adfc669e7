"""Transactions that the real programs executed in LiteSVM: ``tests/golden/solana_transactions.json``.

Four kinds of each program in version 0 (the wallet's own wrapped SOL, fees by instructions), and fourteen of
version 1: one leg of each program, exact outputs, four legs, two hops, failures, DLMM over two bin arrays.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.amm import ChainTime
from service.amm.errors import MalformedStateError
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.programs.pool import OnChainPool
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount

GOLDEN = Path(__file__).parents[1] / "golden" / "solana_transactions.json"

WALLET = Keypair.from_seed(hashlib.sha256(b"user").digest())
USDC = Keypair.from_seed(hashlib.sha256(b"usdc").digest()).pubkey()
PROGRAMS = AmmPrograms(MAINNET)
RENT = 2_039_280
"""Lamports of a token account when the transactions were executed."""

ON_PURPOSE_WRONG = ("dlmm_second_array_missing", "dlmm_arrays_reversed")
"""One lacks a bin array that its swap reaches, one has them in the wrong sequence: none is ever built so."""


@dataclass(frozen=True, slots=True)
class ExecutedAccount:
    """An account before a transaction."""

    owner: Pubkey
    lamports: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """A transaction, the accounts before it, and what it did."""

    name: str
    raw: bytes
    before: Mapping[Pubkey, ExecutedAccount]
    after: Mapping[Pubkey, bytes]
    now: ChainTime
    facts: Mapping[str, Any]

    @property
    def transaction(self) -> VersionedTransaction:
        """The transaction, decoded by the library."""
        return VersionedTransaction.from_bytes(self.raw)

    @property
    def version_1(self) -> bool:
        """Whether it has the format that the service builds."""
        return "meta" in self.facts

    @property
    def data(self) -> dict[Pubkey, bytes]:
        """The accounts' data before the transaction."""
        return {key: account.data for key, account in self.before.items()}

    @property
    def pools(self) -> dict[Pubkey, OnChainPool]:
        """The pools among the accounts, one of a program at most, by program."""
        found: dict[Pubkey, OnChainPool] = {}
        for key, account in self.before.items():
            with suppress(MalformedStateError):
                found[account.owner] = PROGRAMS.open(key, account.owner, account.data)
        return found

    @property
    def err(self) -> Any:
        """The error as a node reports it, or None."""
        return self.facts["meta"]["err"] if self.version_1 else self.facts["err"]

    @property
    def single_swap(self) -> Instruction | None:
        """The swap's instruction on its own, which only the older transactions have."""
        if "swap_ix" not in self.facts:
            return None
        found = self.facts["swap_ix"]
        accounts = [AccountMeta(Pubkey.from_string(key), s, w) for key, s, w in found["accounts"]]
        return Instruction(Pubkey.from_string(found["program"]), bytes.fromhex(found["data"]), accounts)

    def answer(self) -> dict[str, Any]:
        """Return a node's answer to getTransaction."""
        return {
            "slot": 7,
            "blockTime": self.now.timestamp_s,
            "version": 1 if self.version_1 else 0,
            "transaction": [base64.b64encode(self.raw).decode(), "base64"],
            "meta": json.loads(json.dumps(self.facts["meta"])) if self.version_1 else self._meta(),
        }

    def _meta(self) -> dict[str, Any]:
        """Make the metadata of an older transaction from its accounts and the wallet's recorded changes."""
        keys = self.transaction.message.account_keys
        usdc = associated_token_account(WALLET.pubkey(), USDC, TOKEN_PROGRAM)
        lamports = [self.before[key].lamports if key in self.before else 0 for key in keys]
        later = list(lamports)
        later[0] += self.facts["wallet_lamports"]
        before = {key: data for key, data in self.data.items() if _is_token_account(self.before[key])}
        after = {key: self.after.get(key, data) for key, data in before.items()}
        amounts = {key: token_amount(data) for key, data in after.items()}
        owners = {key: (data[:32], data[32:64]) for key, data in before.items()}
        if self.err is None:
            owners[usdc] = (bytes(USDC), bytes(WALLET.pubkey()))
            amounts[usdc] = self.facts["wallet_usdc"] + (token_amount(before[usdc]) if usdc in before else 0)
            later[keys.index(usdc)] = RENT
        return {
            "err": self.err,
            "fee": self.facts["fee"],
            "preBalances": lamports,
            "postBalances": later,
            "preTokenBalances": [
                _token_balance(keys.index(key), *owners[key], token_amount(data))
                for key, data in before.items()
            ],
            "postTokenBalances": [
                _token_balance(keys.index(key), *owners[key], amount) for key, amount in amounts.items()
            ],
        }


def _is_token_account(account: ExecutedAccount) -> bool:
    return account.owner == TOKEN_PROGRAM and len(account.data) == TOKEN_ACCOUNT_BYTES


def _token_balance(index: int, mint: bytes, owner: bytes, amount: int) -> dict[str, Any]:
    return {
        "accountIndex": index,
        "mint": str(Pubkey.from_bytes(mint)),
        "owner": str(Pubkey.from_bytes(owner)),
        "uiTokenAmount": {"amount": str(amount)},
    }


@cache
def executed() -> dict[str, Executed]:
    """Return all thirty, by name."""
    content = json.loads(GOLDEN.read_text())
    data = [base64.b64decode(each) for each in content["data"]]
    return {
        case["name"]: Executed(
            case["name"],
            base64.b64decode(case["transaction"]),
            {
                Pubkey.from_string(key): ExecutedAccount(Pubkey.from_string(owner), lamports, data[index])
                for key, (owner, lamports, index) in case["accounts_before"].items()
            },
            {Pubkey.from_string(key): data[index] for key, index in case["accounts_after"].items()},
            ChainTime(case["clock"]),
            case,
        )
        for case in content["cases"]
    }
