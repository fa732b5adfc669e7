"""Swaps of Meteora's DAMM v2 program.

Source: MeteoraAg/damm-v2 programs/cp-amm/src/instructions/ix_swap.rs (swap2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from service.amm import DammV2Pool
from service.amm.meteora_damm_v2_account import DammV2Account, pool_of_account
from service.chains.solana.addresses import derived
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

# The fixed amount, the limit of the other, and the mode.
_SWAP = AnchorInstruction("swap2", "QQB")
_EXACT_IN, _EXACT_OUT = 0, 2
_ACCOUNTS = 14


@dataclass(frozen=True, slots=True)
class DammV2OnChain:
    """A DAMM v2 pool and the addresses of its accounts."""

    addresses: PoolAddresses
    authority: Pubkey
    event_authority: Pubkey

    def state_accounts(self) -> tuple[Pubkey, ...]:
        """Return the pool's account, which holds all that a quote needs."""
        return (self.addresses.pool,)

    def state(self, data: Mapping[Pubkey, bytes]) -> DammV2Pool:
        """Return the pool's state from its account.

        Raises:
            StateIncompleteError: The account is missing.
            MalformedStateError: It is not what it should be.
        """
        return pool_of_account(DammV2Account.decode(account(data, self.addresses.pool)))

    def instruction(self, swap: LegSwap, user: UserAccounts) -> Instruction:
        """Return the instruction of a swap; the user's accounts give its direction."""
        pool = self.addresses
        if swap.mode is SwapMode.EXACT_IN:
            data = _SWAP.encode(swap.amount_in, swap.amount_out, _EXACT_IN)
        else:
            data = _SWAP.encode(swap.amount_out, swap.amount_in, _EXACT_OUT)
        accounts = [
            readonly(self.authority),
            writable(pool.pool),
            writable(user.source),
            writable(user.destination),
            writable(pool.token_a.vault),
            writable(pool.token_b.vault),
            readonly(pool.token_a.mint),
            readonly(pool.token_b.mint),
            signer(user.owner),
            readonly(pool.token_a.program),
            readonly(pool.token_b.program),
            # The program's own address stands for an optional account that is absent: the referral's.
            readonly(pool.program),
            readonly(self.event_authority),
            readonly(pool.program),
        ]
        return Instruction(pool.program, data, accounts)


class DammV2Program:
    """The DAMM v2 program at its address on a cluster."""

    def __init__(self, program: Pubkey) -> None:
        self.id = program
        self._authority = derived(program, b"pool_authority")
        self._event_authority = derived(program, b"__event_authority")

    def open(self, pool: Pubkey, data: bytes) -> DammV2OnChain:
        """Return a pool from its account.

        Raises:
            MalformedStateError: The account is not a pool of this program.
        """
        found = DammV2Account.decode(data)
        addresses = PoolAddresses(
            self.id,
            pool,
            meteora_side(found.mint_a, found.vault_a, found.token_flag_a),
            meteora_side(found.mint_b, found.vault_b, found.token_flag_b),
        )
        return DammV2OnChain(addresses, self._authority, self._event_authority)

    def decode(self, accounts: Sequence[Pubkey], data: bytes) -> DecodedSwap:
        """Decode an instruction of this program.

        Raises:
            UnknownInstructionError: It is not a swap in one of the two modes.
        """
        if not _SWAP.matches(data):
            raise UnknownInstructionError("not a swap of DAMM v2")
        fixed, limit, mode = _SWAP.decode(data)
        if mode not in (_EXACT_IN, _EXACT_OUT):
            raise UnknownInstructionError(f"mode {mode} of DAMM v2")
        check_accounts(accounts, _ACCOUNTS, {0: self._authority, 12: self._event_authority, 13: self.id})
        exact_in = mode == _EXACT_IN
        return DecodedSwap(
            self.id,
            accounts[1],
            UserAccounts(accounts[8], accounts[2], accounts[3]),
            (accounts[4], accounts[5]),
            SwapMode.EXACT_IN if exact_in else SwapMode.EXACT_OUT,
            fixed if exact_in else limit,
            limit if exact_in else fixed,
        )
