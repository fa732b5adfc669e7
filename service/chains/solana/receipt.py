"""What a landed transaction really did, from its bytes and a node's answer to getTransaction. Pure.

The amounts are those of the pools' vaults: they exist before and after, no pool is used twice, and wrapped
SOL is there a token like any other. The wallet's balances must agree; a difference is reported, and the
vaults count.

Nothing but the transaction's own bytes is needed: they say which pools it used. An answer that does not tell
everything is refused, never completed by a guess.
"""

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.errors import TransactionError, UnreadableError, read_error
from service.chains.solana.programs.pool import DecodedSwap, UnknownInstructionError
from service.chains.solana.programs.registry import AmmPrograms
from service.domain.amounts import U64_MAX
from service.domain.transaction import Fill

_DIGITS = re.compile(r"[0-9]{1,20}")
# The largest number that PostgreSQL stores, and the end of the year 9999.
_LARGEST = 2**63 - 1
_LATEST_TIME_S = 253_402_300_799


class NoReceiptError(Exception):
    """The answer does not tell what the transaction did. Ask again, or another node; nothing is known."""


class OtherBytesError(NoReceiptError):
    """The node has other bytes under the transaction's signature than are stored."""


class LegFill(NamedTuple):
    """What one leg paid into its pool and received from it, in base units."""

    pool: Pubkey
    sold: Pubkey
    bought: Pubkey
    amount_in: int
    amount_out: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction's effect.

    Attributes:
        signature: The transaction's id.
        slot: Where it landed.
        block_time: When that was, in seconds since the Unix epoch; None if the node does not know.
        error: Why it failed; None if it succeeded. A failed one has no legs, and costs its fee.
        network_fee: Lamports paid to the network: base and priority fee.
        rent: Lamports put into new token accounts, which stay there until they are closed.
        legs: What each leg paid and received.
        differences: Changes of the wallet's balances that legs and costs do not explain, for an operator.
    """

    signature: str
    slot: int
    block_time: int | None
    error: TransactionError | None
    network_fee: int
    rent: int
    legs: tuple[LegFill, ...]
    differences: tuple[str, ...]

    @property
    def ends(self) -> tuple[Pubkey, Pubkey]:
        """What a successful one sold and bought: legs stand path by path, and all trade the same pair."""
        return self.legs[0].sold, self.legs[-1].bought

    def fill(self, token_in: Pubkey, token_out: Pubkey) -> Fill:
        """Return the fill of an order that sells one token for another."""
        return Fill(
            sum(leg.amount_in for leg in self.legs if leg.sold == token_in),
            sum(leg.amount_out for leg in self.legs if leg.bought == token_out),
            self.signature,
        )

    def residue(self, token_in: Pubkey, token_out: Pubkey) -> dict[Pubkey, int]:
        """Return what first legs bought and second legs did not sell, by mint; without what is zero."""
        changes = _changes(self.legs)
        return {
            mint: change for mint, change in changes.items() if change and mint not in (token_in, token_out)
        }


@dataclass(frozen=True, slots=True)
class _TokenBalance:
    mint: Pubkey
    owner: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class _Balances:
    """The balances before or after, by the index of the account."""

    lamports: Sequence[int]
    tokens: Mapping[int, _TokenBalance]


def read_receipt(answer: Mapping[str, Any] | None, raw: bytes, programs: AmmPrograms) -> Receipt:
    """Read a node's answer to getTransaction.

    Args:
        answer: The result, in base64 encoding; None if the node does not know the transaction.
        raw: The transaction's bytes as stored.
        programs: The programs of the cluster.

    Raises:
        NoReceiptError: The answer does not tell what the transaction did.
    """
    if answer is None:
        raise NoReceiptError("the node does not know the transaction")
    try:
        if base64.b64decode(answer["transaction"][0], validate=True) != raw:
            raise OtherBytesError("the node's transaction has other bytes")
        meta = answer["meta"]
        if meta is None:
            raise NoReceiptError("the node has no metadata of the transaction")
        slot, block_time = _integer(answer["slot"], _LARGEST), answer.get("blockTime")
        if block_time is not None:
            block_time = _integer(block_time, _LATEST_TIME_S)
        return _read(raw, slot, block_time, meta, programs)
    except UnreadableError as error:
        raise NoReceiptError(f"the node's answer is malformed: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError) as error:
        # Its text may repeat the answer, which may be anything.
        raise NoReceiptError(f"the node's answer is malformed: {type(error).__name__}") from None


def _read(
    raw: bytes, slot: int, block_time: int | None, meta: Mapping[str, Any], programs: AmmPrograms
) -> Receipt:
    transaction = VersionedTransaction.from_bytes(raw)
    keys = transaction.message.account_keys
    before = _balances(meta, "pre", len(keys))
    after = _balances(meta, "post", len(keys))
    fee = _integer(meta["fee"], before.lamports[0])
    error = None
    legs: tuple[LegFill, ...] = ()
    if meta["err"] is None:
        legs = tuple(_leg(swap, keys, before, after) for swap in decoded_swaps(transaction, programs))
        if not legs:
            raise NoReceiptError("a transaction without a swap")
    else:
        error = read_error(meta["err"], _programs(transaction))
    rent = _rent(keys[0], before, after)
    return Receipt(
        str(transaction.signatures[0]),
        slot,
        block_time,
        error,
        fee,
        rent,
        legs,
        tuple(_differences(keys[0], _changes(legs), fee + rent, before, after)),
    )


def read_simulated(
    answer: Mapping[str, Any], message: bytes, programs: AmmPrograms
) -> tuple[tuple[LegFill, ...], int]:
    """Read a node's answer to simulateTransaction: what each leg would have paid and received, and the rent.

    Args:
        answer: The answer's value, of a transaction that would have succeeded.
        message: The version 1 message.
        programs: The programs of the cluster.

    Raises:
        NoReceiptError: The answer does not tell: nodes of older versions leave the balances out.
    """
    transaction = VersionedTransaction.from_bytes(message + bytes(Signature.LENGTH))
    keys = transaction.message.account_keys
    try:
        before, after = (_balances(answer, when, len(keys)) for when in ("pre", "post"))
        legs = tuple(_leg(swap, keys, before, after) for swap in decoded_swaps(transaction, programs))
        return legs, _rent(keys[0], before, after)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        # As in ``read_receipt``: its text may repeat the answer.
        raise NoReceiptError(f"the node's answer is malformed: {type(error).__name__}") from None


def decoded_swaps(transaction: VersionedTransaction, programs: AmmPrograms) -> tuple[DecodedSwap, ...]:
    """Return a transaction's swaps, in their sequence.

    Raises:
        NoReceiptError: It calls one of the programs for something else, or looks accounts up in a table.
    """
    message = transaction.message
    if isinstance(message, MessageV0) and message.address_table_lookups:
        raise NoReceiptError("a transaction with lookup tables")
    keys = message.account_keys
    swaps = []
    for each in message.instructions:
        accounts = [keys[index] for index in each.accounts]
        try:
            swap = programs.decode(keys[each.program_id_index], accounts, each.data)
        except UnknownInstructionError as error:
            raise NoReceiptError(f"an instruction that is not a swap: {error}") from error
        if swap is not None:
            swaps.append(swap)
    return tuple(swaps)


def _programs(transaction: VersionedTransaction) -> list[Pubkey]:
    keys = transaction.message.account_keys
    return [keys[each.program_id_index] for each in transaction.message.instructions]


def _balances(meta: Mapping[str, Any], when: str, accounts: int) -> _Balances:
    lamports = [_integer(each, _LARGEST) for each in meta[f"{when}Balances"]]
    if len(lamports) != accounts:
        raise NoReceiptError(f"{len(lamports)} balances of {accounts} accounts")
    tokens = {
        _integer(each["accountIndex"]): _TokenBalance(
            Pubkey.from_string(each["mint"]),
            Pubkey.from_string(each["owner"]),
            _amount(each["uiTokenAmount"]["amount"]),
        )
        for each in meta[f"{when}TokenBalances"]
    }
    return _Balances(lamports, tokens)


def _integer(value: Any, most: int = U64_MAX) -> int:
    """Return a number within what a chain has: what is final is stored, and kept for good."""
    if type(value) is not int or not 0 <= value <= most:
        raise NoReceiptError(f"a number is none from 0 to {most}")
    return value


def _amount(value: Any) -> int:
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise NoReceiptError("an amount is not one in digits")
    return _integer(int(value))


def _leg(swap: DecodedSwap, keys: Sequence[Pubkey], before: _Balances, after: _Balances) -> LegFill:
    changes: list[tuple[int, Pubkey]] = []
    for vault in swap.vaults:
        index = keys.index(vault)
        if index not in before.tokens or index not in after.tokens:
            raise NoReceiptError(f"no balance of the vault {vault}")
        held = after.tokens[index]
        changes.append((held.amount - before.tokens[index].amount, held.mint))
    (lost, bought), (gained, sold) = sorted(changes, key=lambda change: change[0])
    if not lost < 0 < gained:
        raise NoReceiptError(f"the vaults of {swap.pool} changed by {lost} and {gained}")
    if gained > swap.amount_in or -lost < swap.amount_out:
        raise NoReceiptError(f"the vaults of {swap.pool} changed by {lost} and {gained}, beyond the limits")
    return LegFill(swap.pool, sold, bought, gained, -lost)


def _changes(legs: Sequence[LegFill]) -> Counter[Pubkey]:
    """Return the wallet's change of each token, by mint."""
    changes: Counter[Pubkey] = Counter()
    for leg in legs:
        changes[leg.sold] -= leg.amount_in
        changes[leg.bought] += leg.amount_out
    return changes


def _rent(wallet: Pubkey, before: _Balances, after: _Balances) -> int:
    return sum(
        after.lamports[index] - before.lamports[index]
        for index, held in after.tokens.items()
        if held.owner == wallet and index not in before.tokens
    )


def _differences(
    wallet: Pubkey, expected: Counter[Pubkey], costs: int, before: _Balances, after: _Balances
) -> list[str]:
    """Compare the wallet's changes with those that the legs and the costs explain."""
    found: Counter[Pubkey] = Counter()
    for balances, sign in ((before, -1), (after, 1)):
        for held in balances.tokens.values():
            if held.owner == wallet:
                found[held.mint] += sign * held.amount
    found[WRAPPED_SOL] += after.lamports[0] - before.lamports[0] + costs
    return [
        f"{mint}: the wallet's balance changed by {found[mint]}, the legs explain {expected[mint]}"
        for mint in sorted({*expected, *found}, key=str)
        if found[mint] != expected[mint]
    ]
