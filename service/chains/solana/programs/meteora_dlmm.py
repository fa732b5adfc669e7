"""Swaps of Meteora's DLMM program.

Source: MeteoraAg/dlmm-sdk idls/dlmm.json (0.12.0), swap2 and swap_exact_out2; which bin arrays a swap needs:
commons/src/quote.rs, get_bin_array_pubkeys_for_swap.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from service.amm import Direction, DlmmPool
from service.amm.errors import MalformedStateError
from service.amm.meteora_dlmm_account import (
    PAIR_BITMAP_SIZE,
    BinArrayAccount,
    BitmapExtensionAccount,
    LbPairAccount,
    liquid_arrays,
    pool_of_accounts,
)
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY
from service.chains.solana.addresses import MEMO_PROGRAM, derived
from service.chains.solana.programs.anchor import AnchorInstruction
from service.chains.solana.programs.pool import (
    DecodedSwap,
    LegSwap,
    PoolAddresses,
    UnknownInstructionError,
    UserAccounts,
    account,
    check_accounts,
    meteora_side,
    readonly,
    signer,
    writable,
)
from service.domain.quote import SwapMode

# Both take what the user pays, what it receives, and the length of an empty list of transfer hooks.
_EXACT_IN = AnchorInstruction("swap2", "QQI")
_EXACT_OUT = AnchorInstruction("swap_exact_out2", "QQI")
_NO_HOOKS = 0
_ACCOUNTS = 16

READ_EACH_SIDE = 3
"""How many bin arrays with liquidity are read on each side of the active one."""


def bin_array_address(program: Pubkey, pool: Pubkey, index: int) -> Pubkey:
    """Return the address of a pool's bin array."""
    return derived(program, b"bin_array", bytes(pool), index.to_bytes(8, "little", signed=True))


def arrays_ahead(pool: DlmmPool, direction: Direction) -> tuple[int, ...]:
    """Return the indices of the arrays with liquidity, in the sequence in which a swap reaches them."""
    start = pool.active_id // BINS_PER_ARRAY
    liquid = pool.liquid_arrays
    if direction is Direction.A_TO_B:
        return liquid[: bisect_right(liquid, start)][::-1]
    return liquid[bisect_left(liquid, start) :]


def arrays_to_carry(before: DlmmPool, after: DlmmPool, direction: Direction, spare: int) -> tuple[int, ...]:
    """Return the indices of the arrays that a swap's instruction names.

    A swap that reaches an array which its instruction does not name fails, so it carries some more than its
    quote used: the price may move before it lands.

    Args:
        before: The pool that was quoted.
        after: The pool after the quoted swap.
        direction: Which token goes in.
        spare: How many arrays with liquidity to add beyond the last one that the quote used.
    """
    ahead = arrays_ahead(before, direction)
    last = after.active_id // BINS_PER_ARRAY
    used = [index for index in ahead if (index >= last if direction is Direction.A_TO_B else index <= last)]
    return ahead[: len(used) + spare]


@dataclass(frozen=True, slots=True)
class DlmmOnChain:
    """A DLMM pool and the addresses of its accounts.

    ``liquid`` and ``active`` are the arrays with liquidity and the active one when the pool was opened.
    ``extended`` says whether it has a bitmap for the arrays that are far from bin 0.
    """

    addresses: PoolAddresses
    event_authority: Pubkey
    oracle: Pubkey
    extension: Pubkey
    extended: bool
    liquid: tuple[int, ...]
    active: int

    def state_accounts(self) -> tuple[Pubkey, ...]:
        """Return the pair, the bitmap's extension, which few pools have, and the nearest bin arrays."""
        below = self.liquid[: bisect_left(self.liquid, self.active)][-READ_EACH_SIDE:]
        rest = self.liquid[bisect_left(self.liquid, self.active) :]
        above = rest[: READ_EACH_SIDE + (self.active in rest)]
        arrays = (bin_array_address(self.addresses.program, self.addresses.pool, i) for i in below + above)
        return self.addresses.pool, self.extension, *arrays

    def state(self, data: Mapping[Pubkey, bytes]) -> DlmmPool:
        """Return the pool's state from accounts of one read, with the bin arrays that are among them.

        Raises:
            StateIncompleteError: The pair's account is missing.
            MalformedStateError: An account is not what it should be.
        """
        pool = self.addresses.pool
        pair = LbPairAccount.decode(account(data, pool))
        extension = data.get(self.extension)
        decoded = None if extension is None else BitmapExtensionAccount.decode(extension)
        arrays = []
        for index in liquid_arrays(pair, decoded):
            found = data.get(bin_array_address(self.addresses.program, pool, index))
            if found is not None:
                arrays.append(_bin_array(found, pool, index))
        return pool_of_accounts(pair, arrays, decoded)

    def instruction(self, swap: LegSwap, user: UserAccounts) -> Instruction:
        """Return the instruction of a swap; the user's accounts give its direction."""
        pool = self.addresses
        kind = _EXACT_IN if swap.mode is SwapMode.EXACT_IN else _EXACT_OUT
        far = any(not -PAIR_BITMAP_SIZE <= index < PAIR_BITMAP_SIZE for index in swap.bin_arrays)
        # The program's own address stands for an optional account that is absent.
        absent = readonly(pool.program)
        accounts = [
            writable(pool.pool),
            writable(self.extension) if self.extended or far else absent,
            writable(pool.token_a.vault),
            writable(pool.token_b.vault),
            writable(user.source),
            writable(user.destination),
            readonly(pool.token_a.mint),
            readonly(pool.token_b.mint),
            writable(self.oracle),
            absent,  # the host's fee
            signer(user.owner),
            readonly(pool.token_a.program),
            readonly(pool.token_b.program),
            readonly(MEMO_PROGRAM),
            readonly(self.event_authority),
            readonly(pool.program),
            *(writable(bin_array_address(pool.program, pool.pool, index)) for index in swap.bin_arrays),
        ]
        return Instruction(pool.program, kind.encode(swap.amount_in, swap.amount_out, _NO_HOOKS), accounts)


class DlmmProgram:
    """The DLMM program at its address on a cluster."""

    def __init__(self, program: Pubkey) -> None:
        self.id = program
        self._event_authority = derived(program, b"__event_authority")

    def open(self, pool: Pubkey, data: bytes, extension: bytes | None = None) -> DlmmOnChain:
        """Return a pool from its account and, if it exists, the extension of its bitmap.

        Raises:
            MalformedStateError: The accounts are not those of a pool of this program.
        """
        found = LbPairAccount.decode(data)
        decoded = None if extension is None else BitmapExtensionAccount.decode(extension)
        addresses = PoolAddresses(
            self.id,
            pool,
            meteora_side(found.mint_x, found.reserve_x, found.token_program_flag_x),
            meteora_side(found.mint_y, found.reserve_y, found.token_program_flag_y),
        )
        return DlmmOnChain(
            addresses,
            self._event_authority,
            Pubkey.from_bytes(found.oracle),
            derived(self.id, b"bitmap", bytes(pool)),
            decoded is not None,
            liquid_arrays(found, decoded),
            found.active_id // BINS_PER_ARRAY,
        )

    def decode(self, accounts: Sequence[Pubkey], data: bytes) -> DecodedSwap:
        """Decode an instruction of this program.

        Raises:
            UnknownInstructionError: It is not a swap without transfer hooks.
        """
        if _EXACT_IN.matches(data):
            mode, (amount_in, amount_out, hooks) = SwapMode.EXACT_IN, _EXACT_IN.decode(data)
        elif _EXACT_OUT.matches(data):
            mode, (amount_in, amount_out, hooks) = SwapMode.EXACT_OUT, _EXACT_OUT.decode(data)
        else:
            raise UnknownInstructionError("not a swap of DLMM")
        if hooks != _NO_HOOKS:
            raise UnknownInstructionError("a swap with transfer hooks")
        check_accounts(accounts, _ACCOUNTS, {13: MEMO_PROGRAM, 14: self._event_authority, 15: self.id})
        return DecodedSwap(
            self.id,
            accounts[0],
            UserAccounts(accounts[10], accounts[4], accounts[5]),
            (accounts[2], accounts[3]),
            mode,
            amount_in,
            amount_out,
            tuple(accounts[_ACCOUNTS:]),
        )


def _bin_array(data: bytes, pool: Pubkey, index: int) -> BinArrayAccount:
    found = BinArrayAccount.decode(data)
    if found.lb_pair != bytes(pool) or found.index != index:
        raise MalformedStateError(f"bin array {found.index} of another pool stands for {index} of {pool}")
    return found
