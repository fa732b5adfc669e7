"""Accounts as the instructions before a swap leave them, and what stands for a swap's instruction."""

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from service.amm import ChainTime
from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount
from service.sandbox.accounts import StoredAccount

_AMOUNT_AT = 64
_TOKEN_PROGRAMS = (TOKEN_PROGRAM, TOKEN_2022_PROGRAM)


class ProgramRefusedError(Exception):
    """The program refuses the instruction.

    Attributes:
        reason: Its own code, or the name of an error that is not its own.
        paid_first: A transfer that fails first, if the user cannot pay it.
    """

    def __init__(self, reason: int | str, paid_first: Instruction | None = None) -> None:
        super().__init__(f"refused with {reason}")
        self.reason = reason
        self.paid_first = paid_first


class DoubledSwap(NamedTuple):
    """What stands for a swap's instruction.

    Attributes:
        transfers: From the user to the pool, and from the pool to the user.
        written: The new data of the program's accounts.
        vaults: The change of each vault's amount.
        units: The compute units of the instruction.
    """

    transfers: tuple[Instruction, Instruction]
    written: Mapping[Pubkey, bytes]
    vaults: Mapping[Pubkey, int]
    units: int


class Staged:
    """What a double reads: the accounts before the transaction, and what its earlier instructions change.

    It follows the swaps before, and token accounts that the transaction opens. A plain transfer into a pool's
    vault, in the same transaction before the swap, is not seen.
    """

    def __init__(self, read: Callable[[Pubkey], StoredAccount | None], now: ChainTime) -> None:
        self._read = read
        self._data: dict[Pubkey, bytes] = {}
        self._opened: dict[Pubkey, Pubkey] = {}
        self.now = now

    def open(self, account: Pubkey, mint: Pubkey) -> None:
        """Note a token account that an instruction opens."""
        self._opened[account] = mint

    def apply(self, swap: DoubledSwap) -> None:
        """Note what a swap changes."""
        self._data.update(swap.written)
        for vault, change in swap.vaults.items():
            data = bytearray(self.data(vault))
            # What a vault does not hold it cannot pay: the token program refuses that transfer.
            struct.pack_into("<Q", data, _AMOUNT_AT, max(0, token_amount(bytes(data)) + change))
            self._data[vault] = bytes(data)

    def owner(self, key: Pubkey) -> Pubkey | None:
        """Return the program that owned an account before the transaction; None if it did not exist."""
        found = self._read(key)
        return None if found is None else found.owner

    def data(self, key: Pubkey) -> bytes:
        """Return an account's data; nothing if it does not exist."""
        if key in self._data:
            return self._data[key]
        found = self._read(key)
        return b"" if found is None else found.data

    def mint_of(self, key: Pubkey) -> Pubkey | None:
        """Return the mint of a token account; None if it is none."""
        found = self._read(key)
        if found is None:
            return self._opened.get(key)
        if found.owner not in _TOKEN_PROGRAMS or len(found.data) < TOKEN_ACCOUNT_BYTES:
            return None
        return Pubkey.from_bytes(found.data[:32])
