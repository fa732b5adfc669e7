"""Accounts of the sandbox chain, with their earlier versions: reads of older slots, and forks, need them."""

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from solders.pubkey import Pubkey

from service.chains.solana.addresses import TOKEN_PROGRAM, WRAPPED_SOL
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES

RENT_PER_BYTE = 6_960
RENT_OVERHEAD_BYTES = 128

_TOKEN_ACCOUNT = struct.Struct("<32s32sQ36xBIQ44x")
_MINT = struct.Struct("<I32sQBB36x")
_INITIALIZED = 1


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account. One with no lamports does not exist; None stands for it."""

    lamports: int
    owner: Pubkey
    data: bytes = b""
    executable: bool = False


class _Version(NamedTuple):
    slot: int
    account: StoredAccount | None


class AccountHistory:
    """Every account with its versions by slot.

    Versions that no reader can ask for any more are dropped when their account is next written.
    """

    def __init__(self) -> None:
        self._versions: dict[Pubkey, list[_Version]] = {}
        self._by_owner: defaultdict[Pubkey, set[Pubkey]] = defaultdict(set)

    def write(self, slot: int, key: Pubkey, account: StoredAccount | None, oldest_read: int = 0) -> None:
        """Write an account.

        Args:
            slot: Where it is written; not before the slot of the last write.
            key: The account's address.
            account: The account; None removes it.
            oldest_read: The oldest slot that can still be read.
        """
        versions = self._versions.setdefault(key, [])
        if versions and versions[-1].slot == slot:
            versions.pop()
        versions.append(_Version(slot, account))
        del versions[: max(0, bisect_right(versions, oldest_read, key=_slot) - 1)]
        if account is not None:
            self._by_owner[account.owner].add(key)

    def at(self, key: Pubkey, slot: int) -> StoredAccount | None:
        """Return an account as it was at the end of a slot."""
        versions = self._versions.get(key)
        if not versions:
            return None
        if versions[-1].slot <= slot:
            return versions[-1].account
        index = bisect_right(versions, slot, key=_slot)
        return versions[index - 1].account if index else None

    def all_at(self, slot: int) -> dict[Pubkey, StoredAccount | None]:
        """Return all accounts as they were at the end of a slot."""
        found = {key: self.at(key, slot) for key in self._versions}
        return {key: account for key, account in found.items() if account is not None}

    def undo(self, keys: Iterable[Pubkey], last_slot: int) -> None:
        """Forget what was written to these accounts after a slot."""
        for key in keys:
            versions = self._versions.get(key, [])
            del versions[bisect_right(versions, last_slot, key=_slot) :]

    def owned_by(self, owner: Pubkey, slot: int) -> Iterator[tuple[Pubkey, StoredAccount]]:
        """Yield the accounts that a program owned at the end of a slot, by address."""
        for key in sorted(self._by_owner.get(owner, ()), key=bytes):
            account = self.at(key, slot)
            if account is not None and account.owner == owner:
                yield key, account


def _slot(version: _Version) -> int:
    return version.slot


def rent_exempt(size: int) -> int:
    """Return the lamports that make an account of this many bytes exempt from rent."""
    return (RENT_OVERHEAD_BYTES + size) * RENT_PER_BYTE


def held_account(mint: Pubkey, owner: Pubkey, amount: int) -> StoredAccount:
    """Return a token account with a balance; one of wrapped SOL has it in lamports too."""
    rent = rent_exempt(TOKEN_ACCOUNT_BYTES)
    lamports, native = (rent + amount, (1, rent)) if mint == WRAPPED_SOL else (rent, (0, 0))
    data = _TOKEN_ACCOUNT.pack(bytes(mint), bytes(owner), amount, _INITIALIZED, *native)
    return StoredAccount(lamports, TOKEN_PROGRAM, data)


def mint_account(decimals: int, supply: int) -> bytes:
    """Return the data of a mint without authorities."""
    return _MINT.pack(0, bytes(32), supply, decimals, _INITIALIZED)
