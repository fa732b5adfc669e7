"""A listed pool: which accounts to read, and its state from them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from solders.pubkey import Pubkey

from service.amm import (
    AmmError,
    AmmV4Pool,
    CpmmPool,
    DammV2Pool,
    Direction,
    DlmmPool,
    PoolState,
    Ratio,
    StateIncompleteError,
)
from service.amm.activation import BY_TIMESTAMP
from service.amm.meteora_dlmm import GATED_PAIRS
from service.chains.solana.feed.accounts import MOST_KEYS, AccountsRead, ClockSysvar
from service.chains.solana.feed.arrays import noticing
from service.chains.solana.feed.slots import MOST_AHEAD
from service.chains.solana.programs.meteora_dlmm import bin_array_address
from service.chains.solana.programs.pool import OnChainPool, TokenSide, account
from service.chains.solana.programs.registry import AmmPrograms, ProgramIds
from service.chains.solana.tokens import UnsupportedMintError, read_mint, token_amount
from service.chains.venue import PoolRef, PoolView
from service.domain.quote import Dex
from service.domain.tokens import Token

# Beyond those that are read anyway.
_MOST_EXTRA_ARRAYS = 8

TokenOf = Callable[[str], Token | None]
"""Returns the token of a mint that may be traded; None for any other."""


class UnreadablePoolError(Exception):
    """The pool cannot be quoted; the message says why."""


class OpenedPool(NamedTuple):
    """A pool that can be quoted, with its state and the slot in which that was last read."""

    pool: OnChainPool
    state: PoolState
    slot: int


class TradedMint(NamedTuple):
    """A token that some pool has traded, its mint, and the mint's program."""

    token: Token
    mint: Pubkey
    program: Pubkey


@dataclass(frozen=True, slots=True)
class ListedPool:
    """A pool as configured: its address, and the program that must own it."""

    program: Pubkey
    address: Pubkey


@dataclass(frozen=True, slots=True)
class Reading:
    """A pool's state in one slot.

    Attributes:
        state: The state.
        vault_a: Base units in the vault of A.
        vault_b: The same for B.
        data: What they were made of.
    """

    state: PoolState
    vault_a: int
    vault_b: int
    data: Mapping[Pubkey, bytes]


class FeedPool:
    """A pool that is read again and again.

    Args:
        listed: The pool.
        programs: Opens it.
        token_of: The tokens that may be traded.
        on_missing: Called when a quote missed an account, which ``keys`` has from then on.

    Attributes:
        ref: The pool for the router; None until it can be quoted, and again when it cannot.
        tokens: Its two tokens, as long as it can be quoted.
        reading: The newest state; None until there is one.
        slot: The slot in which that state was last read.
    """

    def __init__(
        self,
        listed: ListedPool,
        programs: AmmPrograms,
        token_of: TokenOf,
        on_missing: Callable[["FeedPool"], None],
    ) -> None:
        self.id = str(listed.address)
        self._listed = listed
        self._programs = programs
        self._token_of = token_of
        self._on_missing = on_missing
        self._extra_arrays: dict[int, None] = {}
        self._mints_checked = False
        self._keys: tuple[Pubkey, ...] = (listed.address,)
        self.opened: OnChainPool | None = None
        self.ref: PoolRef | None = None
        self.tokens: tuple[Token, ...] = ()
        self.reading: Reading | None = None
        self.slot = 0

    @property
    def keys(self) -> tuple[Pubkey, ...]:
        """The accounts to read next."""
        return self._keys

    def accept(self, read: AccountsRead, keys: Sequence[Pubkey]) -> bool:
        """Take over the state of a read, unless a newer one is known; an absurdly newer one was wrong.

        Args:
            read: Accounts of one slot.
            keys: Which of them were read for this pool.

        Returns:
            Whether the state has changed.

        Raises:
            UnreadablePoolError: The pool cannot be quoted from these accounts.
        """
        if self.slot - MOST_AHEAD <= read.slot < self.slot:
            return False
        found = {key: read.accounts[key].data for key in keys if key in read.accounts}
        if self.reading is not None and self._of_state(found) == self.reading.data:
            self.slot = read.slot
            return False
        try:
            opened = self._open(read, found)
            ref, tokens = (self.ref, self.tokens) if self.ref else self._listable(opened, read)
            state, vault_a, vault_b = self._read(opened, found)
        except StateIncompleteError as error:
            if set(self._keys) <= set(keys):
                raise UnreadablePoolError(str(error)) from error
            # What is missing was not known before, and is read next.
            return False
        except (AmmError, UnsupportedMintError) as error:
            raise UnreadablePoolError(str(error)) from error
        self.ref, self.tokens, self._mints_checked = ref, tokens, True
        self._keys = self._keys_of(opened)
        self.reading, self.slot = Reading(state, vault_a, vault_b, self._of_state(found)), read.slot
        return True

    def forget(self) -> None:
        """Begin anew: it could not be quoted."""
        self.ref = self.reading = self.opened = None
        self.tokens = ()
        self._mints_checked = False
        self._extra_arrays.clear()
        self._keys = (self._listed.address,)

    def _open(self, read: AccountsRead, data: Mapping[Pubkey, bytes]) -> OnChainPool:
        address, program = self._listed.address, self._listed.program
        found = read.accounts.get(address)
        if found is None:
            raise UnreadablePoolError("it does not exist")
        if found.owner != program:
            raise UnreadablePoolError(f"it belongs to {found.owner}, not {program}")
        opened = self.opened or self._programs.open(address, program, found.data)
        self.opened = self._programs.reopen(opened, data)
        self._keys = self._keys_of(self.opened)
        return self.opened

    def _keys_of(self, opened: OnChainPool) -> tuple[Pubkey, ...]:
        a, b = opened.addresses.token_a, opened.addresses.token_b
        program, pool = self._listed.program, self._listed.address
        return tuple(
            dict.fromkeys(
                (
                    *opened.state_accounts(),
                    a.vault,
                    b.vault,
                    *(bin_array_address(program, pool, index) for index in self._extra_arrays),
                    *(() if self._mints_checked else (a.mint, b.mint)),
                )
            )
        )

    def _read(self, opened: OnChainPool, data: Mapping[Pubkey, bytes]) -> tuple[PoolState, int, int]:
        state = opened.state(data)
        if isinstance(state, DlmmPool):
            state = noticing(state, self._miss_array)
        a, b = opened.addresses.token_a.vault, opened.addresses.token_b.vault
        return state, token_amount(account(data, a)), token_amount(account(data, b))

    def _of_state(self, data: Mapping[Pubkey, bytes]) -> dict[Pubkey, bytes]:
        """Return what a state is made of, without what is read only once."""
        return {key: data[key] for key in self._keys if key in data}

    def _listable(self, opened: OnChainPool, read: AccountsRead) -> tuple[PoolRef, tuple[Token, Token]]:
        """Return the pool for the router and its tokens, if the chain has these as they are known here."""
        a, b = (self._token(side, read) for side in (opened.addresses.token_a, opened.addresses.token_b))
        raydium = self._listed.program in (self._programs.ids.raydium_cpmm, self._programs.ids.raydium_amm_v4)
        return PoolRef(self.id, Dex.RAYDIUM if raydium else Dex.METEORA, a.symbol, b.symbol), (a, b)

    def _token(self, side: TokenSide, read: AccountsRead) -> Token:
        token = self._token_of(str(side.mint))
        if token is None:
            raise UnreadablePoolError(f"its token {side.mint} is not one that may be traded")
        found = read.accounts.get(side.mint)
        if found is None:
            raise StateIncompleteError(f"mint {side.mint} was not loaded")
        mint = read_mint(found.owner, found.data)
        if mint.decimals != token.decimals:
            raise UnreadablePoolError(
                f"{token.symbol} has {mint.decimals} decimals on the chain, not {token.decimals}"
            )
        return token

    def _miss_array(self, index: int) -> None:
        if self.opened is None or index in self._extra_arrays:
            return
        if len(self._extra_arrays) == _MOST_EXTRA_ARRAYS:
            del self._extra_arrays[next(iter(self._extra_arrays))]
        self._extra_arrays[index] = None
        self._keys = self._keys_of(self.opened)
        self._on_missing(self)


def groups_of(pools: Iterable[FeedPool]) -> list[list[FeedPool]]:
    """Divide pools into as few groups as one read each can hold; the largest ones first."""
    groups: list[tuple[list[FeedPool], set[Pubkey]]] = []
    for pool in sorted(pools, key=lambda each: len(each.keys), reverse=True):
        fitting = (each for each in groups if len(each[1].union(pool.keys)) <= MOST_KEYS)
        found = next(fitting, None)
        if found is None:
            found = [], set()
            groups.append(found)
        found[0].append(pool)
        found[1].update(pool.keys)
    return [group for group, _ in groups]


def view_of(pool: PoolRef, reading: Reading, program: str, clock: ClockSysvar, slot_ms: int) -> PoolView:
    """Return a pool as the API shows it.

    Args:
        pool: The pool.
        reading: Its state.
        program: The name of its program.
        clock: A slot and its time, from which the times of other slots follow.
        slot_ms: A slot's length.
    """
    opened_at = _opened_at(reading.state, clock, slot_ms)
    return PoolView(pool, program, reading.vault_a, reading.vault_b, _price(reading.state), opened_at)


def program_name(program: Pubkey, ids: ProgramIds) -> str:
    """Return the name of a program that the API shows."""
    return {
        ids.raydium_cpmm: "raydium_cpmm",
        ids.raydium_amm_v4: "raydium_amm_v4",
        ids.meteora_dlmm: "meteora_dlmm",
        ids.meteora_damm_v2: "meteora_damm_v2",
    }[program]


def _price(state: PoolState) -> Ratio | None:
    try:
        return state.price(Direction.A_TO_B)
    except AmmError:
        return None


def _opened_at(state: PoolState, clock: ClockSysvar, slot_ms: int) -> float:
    """Return when a pool opened or opens, in seconds since the Unix epoch; 0: it does not say."""
    match state:
        case CpmmPool() | AmmV4Pool():
            return float(state.open_time_s)
        case DlmmPool() if state.pair_type not in GATED_PAIRS:
            return 0.0
        case DlmmPool() | DammV2Pool():
            if state.activation_type == BY_TIMESTAMP:
                return float(state.activation_point)
            return clock.timestamp_s + (state.activation_point - clock.slot) * slot_ms / 1000
    return 0.0
