"""One program's double: it checks an instruction as the program does, and works out the swap.

The accounts are compared with those of the instruction that ``service.chains.solana`` builds for the same
swap; the tests compare that builder with the real programs, byte for byte. The amounts are those of
``service.amm``. The two transfers that stand for the instruction run in LiteSVM, so that balances and the
owners of accounts are checked by the real token program.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from service.amm import AmmError, Direction, DlmmPool, PoolState, SwapQuote
from service.amm.errors import MalformedStateError
from service.chains.solana.programs.pool import (
    DecodedSwap,
    LegSwap,
    OnChainPool,
    UnknownInstructionError,
    UserAccounts,
    readonly,
    writable,
)
from service.chains.solana.programs.registry import AmmPrograms
from service.domain.quote import SwapMode
from service.sandbox.doubles.staged import DoubledSwap, ProgramRefusedError, Staged

PANIC = "ProgramFailedToComplete"
"""The error of a program that panics; a double's too, for a swap that it cannot reproduce."""

# Anchor's codes.
INSTRUCTION_UNKNOWN = 101
NOT_WRITABLE, WRONG_RELATION, WRONG_CONSTRAINT, WRONG_SEEDS, WRONG_ADDRESS = 2000, 2001, 2003, 2006, 2012
WRONG_DISCRIMINATOR, TOO_FEW_ACCOUNTS, WRONG_OWNER, WRONG_PROGRAM = 3002, 3005, 3007, 3008
NOT_A_SIGNER, NOT_INITIALIZED = 3010, 3012

_TRANSFER, _TRANSFER_CHECKED = struct.Struct("<BQ"), struct.Struct("<BQB")
_TRANSFER_TAG, _TRANSFER_CHECKED_TAG = 3, 12
_DECIMALS_AT = 44
_NOBODY = UserAccounts(Pubkey.default(), Pubkey.default(), Pubkey.default())


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a program refuses: its codes, or names of errors that are not its own. Defaults are Anchor's."""

    slippage: int
    not_signer: int | str = NOT_A_SIGNER
    not_writable: int | str = NOT_WRITABLE
    no_swap: int | str = INSTRUCTION_UNKNOWN
    too_few_accounts: int | str = TOO_FEW_ACCOUNTS
    not_initialized: int | str = NOT_INITIALIZED
    wrong_owner: int | str = WRONG_OWNER
    wrong_data: int | str = WRONG_DISCRIMINATOR


class Call(NamedTuple):
    """An instruction that was understood."""

    pool: OnChainPool
    swap: DecodedSwap
    direction: Direction


Accounts = dict[Pubkey, bytes]


@dataclass(frozen=True, slots=True)
class Double:
    """What is peculiar to one program.

    Attributes:
        accounts: How many accounts an instruction has at least.
        pool_at: Where the pool stands among them.
        authority_at: Where the owner of the pool's vaults stands.
        wrong_account: The code of a wrong account, by its place; any account may stand in other places.
        derived: The places whose accounts do not depend on the pool.
        reasons: The other codes.
        refusals: The reasons of what the mathematics refuses, by the error's code.
        written: Returns the new data of the program's accounts.
        calls: How many instructions the program calls in a swap: transfers, and the log of an event.
        units: Compute units of a swap.
        units_per_bin: Those of each further bin that a DLMM swap reaches.
        by_vaults: Whether the vaults give the direction; otherwise the token that the user pays does.
        readable: Returns the accounts that the instruction lets the program read.
        checks_balance: The code of too small a balance, if it is checked before the limit.
        names_mints: Whether its transfers name the mint.
    """

    accounts: int
    pool_at: int
    authority_at: int
    wrong_account: Mapping[int, int]
    derived: tuple[int, ...]
    reasons: Reasons
    refusals: Mapping[str, int | str]
    written: Callable[[OnChainPool, Accounts, PoolState], Accounts]
    calls: int
    units: int
    units_per_bin: int = 0
    by_vaults: bool = False
    readable: Callable[[Call, Accounts, Staged], Accounts] | None = None
    checks_balance: int | None = None
    names_mints: bool = True

    def execute(
        self,
        programs: AmmPrograms,
        program: Pubkey,
        metas: Sequence[AccountMeta],
        data: bytes,
        staged: Staged,
    ) -> DoubledSwap:
        """Execute an instruction on staged accounts; they are not changed.

        Raises:
            ProgramRefusedError: The program refuses it.
        """
        if len(metas) < self.accounts:
            raise ProgramRefusedError(self.reasons.too_few_accounts)
        pool = self._pool(programs, program, metas[self.pool_at].pubkey, staged)
        swap = self._decoded(programs, pool, [meta.pubkey for meta in metas], data)
        call = Call(pool, swap, self._direction(pool, swap, staged))
        self._check(call, metas)
        for account in swap.user.source, swap.user.destination:
            if staged.mint_of(account) is None:
                raise ProgramRefusedError(self.reasons.not_initialized)
        accounts = {key: found for key in pool.state_accounts() if (found := staged.data(key))}
        if self.readable is not None:
            accounts = self.readable(call, accounts, staged)
        quote, units = self._quote(call, accounts, staged)
        transfers = self._transfers(call, metas[self.authority_at].pubkey, quote, staged)
        if quote.amount_in > swap.amount_in or quote.amount_out < swap.amount_out:
            raise ProgramRefusedError(
                self.reasons.slippage, transfers[0] if self.checks_balance is not None else None
            )
        sold, bought = pool.addresses.sides(call.direction)
        changes = {sold.vault: quote.amount_in, bought.vault: -quote.amount_out}
        return DoubledSwap(transfers, self.written(pool, accounts, quote.next_state()), changes, units)

    def _pool(self, programs: AmmPrograms, program: Pubkey, key: Pubkey, staged: Staged) -> OnChainPool:
        owner = staged.owner(key)
        if owner != program:
            raise ProgramRefusedError(
                self.reasons.not_initialized if owner is None else self.reasons.wrong_owner
            )
        try:
            return programs.open(key, program, staged.data(key))
        except MalformedStateError:
            raise ProgramRefusedError(self.reasons.wrong_data) from None

    def _decoded(
        self, programs: AmmPrograms, pool: OnChainPool, keys: list[Pubkey], data: bytes
    ) -> DecodedSwap:
        # Decoding refuses wrong addresses in these places; here each has a code, so they are compared later.
        example = pool.instruction(LegSwap(Direction.A_TO_B, SwapMode.EXACT_IN, 1, 1), _NOBODY)
        for place in self.derived:
            keys[place] = example.accounts[place].pubkey
        try:
            swap = programs.decode(pool.addresses.program, keys, data)
        except UnknownInstructionError:
            swap = None
        if swap is None:
            raise ProgramRefusedError(self.reasons.no_swap)
        return swap

    def _direction(self, pool: OnChainPool, swap: DecodedSwap, staged: Staged) -> Direction:
        first = pool.addresses.token_a
        if self.by_vaults:
            sells_first = swap.vaults[0] == first.vault
        else:
            sells_first = staged.mint_of(swap.user.source) == first.mint
        return Direction.A_TO_B if sells_first else Direction.B_TO_A

    def _check(self, call: Call, metas: Sequence[AccountMeta]) -> None:
        """Compare the accounts with those of the instruction that the builder makes."""
        leg = LegSwap(call.direction, call.swap.mode, call.swap.amount_in, call.swap.amount_out)
        expected = call.pool.instruction(leg, call.swap.user).accounts
        for place, (meta, wanted) in enumerate(zip(metas, expected, strict=False)):
            code = self.wrong_account.get(place)
            if code is not None and meta.pubkey != wanted.pubkey:
                raise ProgramRefusedError(code)
            if wanted.is_signer and not meta.is_signer:
                raise ProgramRefusedError(self.reasons.not_signer)
            if code is not None and wanted.is_writable and not meta.is_writable:
                raise ProgramRefusedError(self.reasons.not_writable)

    def _quote(self, call: Call, accounts: Accounts, staged: Staged) -> tuple[SwapQuote[PoolState], int]:
        """Return the quote of the swap, and its compute units."""
        try:
            state = call.pool.state(accounts)
            if call.swap.mode is SwapMode.EXACT_IN:
                quote = state.quote_exact_in(call.direction, call.swap.amount_in, staged.now)
            else:
                quote = state.quote_exact_out(call.direction, call.swap.amount_out, staged.now)
        except AmmError as error:
            raise ProgramRefusedError(self.refusals.get(error.code, PANIC)) from error
        return quote, self.units + self.units_per_bin * _bins_apart(state, quote.next_state())

    def _transfers(
        self, call: Call, authority: Pubkey, quote: SwapQuote[PoolState], staged: Staged
    ) -> tuple[Instruction, Instruction]:
        sold, bought = call.pool.addresses.sides(call.direction)
        user = call.swap.user

        def transfer(
            program: Pubkey, mint: Pubkey, source: Pubkey, destination: Pubkey, owner: Pubkey, amount: int
        ) -> Instruction:
            signed = AccountMeta(owner, is_signer=True, is_writable=False)
            if not self.names_mints:
                data = _TRANSFER.pack(_TRANSFER_TAG, amount)
                return Instruction(program, data, [writable(source), writable(destination), signed])
            data = _TRANSFER_CHECKED.pack(_TRANSFER_CHECKED_TAG, amount, staged.data(mint)[_DECIMALS_AT])
            accounts = [writable(source), readonly(mint), writable(destination), signed]
            return Instruction(program, data, accounts)

        return (
            transfer(sold.program, sold.mint, user.source, sold.vault, user.owner, quote.amount_in),
            transfer(
                bought.program, bought.mint, bought.vault, user.destination, authority, quote.amount_out
            ),
        )


def _bins_apart(before: PoolState, after: PoolState) -> int:
    if not isinstance(before, DlmmPool) or not isinstance(after, DlmmPool):
        return 0
    return abs(after.active_id - before.active_id)
