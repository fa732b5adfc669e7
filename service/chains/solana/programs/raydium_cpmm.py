"""Swaps of Raydium's CPMM program.

Source: raydium-io/raydium-cp-swap programs/cp-swap/src/instructions/swap_base_input.rs, swap_base_output.rs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from service.amm import CpmmPool
from service.amm.raydium_cpmm_account import CpmmConfigAccount, CpmmPoolAccount, pool_of_accounts
from service.chains.solana.addresses import derived
from service.chains.solana.programs.anchor import AnchorInstruction
from service.chains.solana.programs.pool import (
    DecodedSwap,
    LegSwap,
    PoolAddresses,
    TokenSide,
    UnknownInstructionError,
    UserAccounts,
    account,
    check_accounts,
    readonly,
    writable,
)
from service.chains.solana.tokens import token_amount
from service.domain.quote import SwapMode

# Both take what the user pays, then what it receives.
_EXACT_IN = AnchorInstruction("swap_base_input", "QQ")
_EXACT_OUT = AnchorInstruction("swap_base_output", "QQ")
_ACCOUNTS = 13


@dataclass(frozen=True, slots=True)
class CpmmOnChain:
    """A CPMM pool and the addresses of its accounts."""

    addresses: PoolAddresses
    authority: Pubkey
    config: Pubkey
    observation: Pubkey

    def state_accounts(self) -> tuple[Pubkey, ...]:
        """Return the pool's account, its config and its vaults."""
        pool = self.addresses
        return pool.pool, self.config, pool.token_a.vault, pool.token_b.vault

    def state(self, data: Mapping[Pubkey, bytes]) -> CpmmPool:
        """Return the pool's state from accounts of one read.

        Raises:
            StateIncompleteError: An account is missing.
            MalformedStateError: An account is not what it should be.
        """
        pool = self.addresses
        return pool_of_accounts(
            CpmmPoolAccount.decode(account(data, pool.pool)),
            CpmmConfigAccount.decode(account(data, self.config)),
            vault_0=token_amount(account(data, pool.token_a.vault)),
            vault_1=token_amount(account(data, pool.token_b.vault)),
        )

    def instruction(self, swap: LegSwap, user: UserAccounts) -> Instruction:
        """Return the instruction of a swap."""
        sold, bought = self.addresses.sides(swap.direction)
        kind = _EXACT_IN if swap.mode is SwapMode.EXACT_IN else _EXACT_OUT
        accounts = [
            # The program declares its payer as writable only here; the others do not.
            AccountMeta(user.owner, is_signer=True, is_writable=True),
            readonly(self.authority),
            readonly(self.config),
            writable(self.addresses.pool),
            writable(user.source),
            writable(user.destination),
            writable(sold.vault),
            writable(bought.vault),
            readonly(sold.program),
            readonly(bought.program),
            readonly(sold.mint),
            readonly(bought.mint),
            writable(self.observation),
        ]
        return Instruction(self.addresses.program, kind.encode(swap.amount_in, swap.amount_out), accounts)


class CpmmProgram:
    """The CPMM program at its address on a cluster."""

    def __init__(self, program: Pubkey) -> None:
        self.id = program
        self._authority = derived(program, b"vault_and_lp_mint_auth_seed")

    def open(self, pool: Pubkey, data: bytes) -> CpmmOnChain:
        """Return a pool from its account.

        Raises:
            MalformedStateError: The account is not a pool of this program.
        """
        found = CpmmPoolAccount.decode(data)
        addresses = PoolAddresses(
            self.id,
            pool,
            _side(found.mint_0, found.vault_0, found.token_program_0),
            _side(found.mint_1, found.vault_1, found.token_program_1),
        )
        return CpmmOnChain(
            addresses,
            self._authority,
            Pubkey.from_bytes(found.amm_config),
            Pubkey.from_bytes(found.observation),
        )

    def decode(self, accounts: Sequence[Pubkey], data: bytes) -> DecodedSwap:
        """Decode an instruction of this program.

        Raises:
            UnknownInstructionError: It is not a swap.
        """
        if _EXACT_IN.matches(data):
            mode, (amount_in, amount_out) = SwapMode.EXACT_IN, _EXACT_IN.decode(data)
        elif _EXACT_OUT.matches(data):
            mode, (amount_in, amount_out) = SwapMode.EXACT_OUT, _EXACT_OUT.decode(data)
        else:
            raise UnknownInstructionError("not a swap of CPMM")
        check_accounts(accounts, _ACCOUNTS, {1: self._authority})
        return DecodedSwap(
            self.id,
            accounts[3],
            UserAccounts(accounts[0], accounts[4], accounts[5]),
            (accounts[6], accounts[7]),
            mode,
            amount_in,
            amount_out,
        )


def _side(mint: bytes, vault: bytes, program: bytes) -> TokenSide:
    return TokenSide(Pubkey.from_bytes(mint), Pubkey.from_bytes(vault), Pubkey.from_bytes(program))
