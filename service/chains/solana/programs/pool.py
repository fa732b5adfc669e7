"""What the four programs share: a pool's addresses, a swap to build, and a decoded swap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from service.amm import Direction, PoolState, StateIncompleteError
from service.amm.errors import MalformedStateError
from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.domain.quote import SwapMode


class UnknownInstructionError(Exception):
    """The instruction is not one of the swaps that this service builds."""


class TokenSide(NamedTuple):
    """One token of a pool: its mint, the pool's vault of it, and the mint's program."""

    mint: Pubkey
    vault: Pubkey
    program: Pubkey


@dataclass(frozen=True, slots=True)
class PoolAddresses:
    """The addresses of a pool that never change; A is the first token of its program's state."""

    program: Pubkey
    pool: Pubkey
    token_a: TokenSide
    token_b: TokenSide

    def sides(self, direction: Direction) -> tuple[TokenSide, TokenSide]:
        """Return the tokens that go in and come out."""
        if direction is Direction.A_TO_B:
            return self.token_a, self.token_b
        return self.token_b, self.token_a


@dataclass(frozen=True, slots=True)
class LegSwap:
    """A swap in one pool, with its limits in base units.

    Exact-in: ``amount_in`` is exact, ``amount_out`` a minimum. Exact-out: ``amount_in`` is a maximum,
    ``amount_out`` is exact. ``bin_arrays`` are the indices of the bin arrays that a DLMM swap may use, in the
    sequence in which it reaches them.
    """

    direction: Direction
    mode: SwapMode
    amount_in: int
    amount_out: int
    bin_arrays: tuple[int, ...] = ()


class UserAccounts(NamedTuple):
    """The user's side of a swap: the signer, and the token accounts that pay and receive."""

    owner: Pubkey
    source: Pubkey
    destination: Pubkey


class DecodedSwap(NamedTuple):
    """A swap instruction, decoded; the amounts are those of ``LegSwap``.

    An instruction does not always say which token goes in: ``vaults`` are the pool's, in the instruction's
    order. The input's is the one that gains.
    """

    program: Pubkey
    pool: Pubkey
    user: UserAccounts
    vaults: tuple[Pubkey, Pubkey]
    mode: SwapMode
    amount_in: int
    amount_out: int
    bin_arrays: tuple[Pubkey, ...] = ()


class OnChainPool(Protocol):
    """A pool of any of the programs, opened from its account."""

    @property
    def addresses(self) -> PoolAddresses:
        """The addresses that never change."""
        ...

    def state_accounts(self) -> tuple[Pubkey, ...]:
        """Return the accounts to read for a quote; one read of all of them gives one state."""
        ...

    def state(self, data: Mapping[Pubkey, bytes]) -> PoolState:
        """Return the pool's state from accounts of one read.

        Raises:
            StateIncompleteError: An account is missing.
            MalformedStateError: An account is not what it should be.
        """
        ...

    def instruction(self, swap: LegSwap, user: UserAccounts) -> Instruction:
        """Return the instruction of a swap."""
        ...


class AmmProgram(Protocol):
    """One of the programs, at its address on a cluster."""

    @property
    def id(self) -> Pubkey:
        """The program's address."""
        ...

    def open(self, pool: Pubkey, data: bytes) -> OnChainPool:
        """Return a pool from its account.

        Raises:
            MalformedStateError: The account is not a pool of this program.
        """
        ...

    def decode(self, accounts: Sequence[Pubkey], data: bytes) -> DecodedSwap:
        """Decode an instruction of this program.

        Raises:
            UnknownInstructionError: It is not one of the swaps that ``OnChainPool`` builds.
        """
        ...


def account(data: Mapping[Pubkey, bytes], key: Pubkey) -> bytes:
    """Return an account's data.

    Raises:
        StateIncompleteError: It is missing.
    """
    found = data.get(key)
    if found is None:
        raise StateIncompleteError(f"account {key} was not loaded")
    return found


def meteora_side(mint: bytes, vault: bytes, flag: int) -> TokenSide:
    """Return one token of a pool of Meteora, whose accounts keep the mint's program as a flag.

    Raises:
        MalformedStateError: The flag is unknown.
    """
    if flag not in (0, 1):
        raise MalformedStateError(f"unknown token program flag {flag}")
    program = TOKEN_2022_PROGRAM if flag else TOKEN_PROGRAM
    return TokenSide(Pubkey.from_bytes(mint), Pubkey.from_bytes(vault), program)


def readonly(key: Pubkey) -> AccountMeta:
    """Return an account that an instruction reads."""
    return AccountMeta(key, is_signer=False, is_writable=False)


def writable(key: Pubkey) -> AccountMeta:
    """Return an account that an instruction writes."""
    return AccountMeta(key, is_signer=False, is_writable=True)


def signer(key: Pubkey) -> AccountMeta:
    """Return a signer whose account the instruction does not write."""
    return AccountMeta(key, is_signer=True, is_writable=False)


def check_accounts(accounts: Sequence[Pubkey], count: int, fixed: Mapping[int, Pubkey]) -> None:
    """Check that an instruction has at least this many accounts, and the program's own ones in their places.

    Raises:
        UnknownInstructionError: It does not.
    """
    if len(accounts) < count:
        raise UnknownInstructionError(f"{len(accounts)} accounts, a swap has {count}")
    for position, key in fixed.items():
        if accounts[position] != key:
            raise UnknownInstructionError(f"account {position} is {accounts[position]}, not {key}")
