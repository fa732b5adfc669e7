"""Swaps of Raydium's AMM v4 program, by its instructions with 18 accounts.

Source: raydium-io/raydium-amm program/src/instruction.rs (SwapBaseIn, tag 9; SwapBaseOut, tag 11) and
processor.rs. A pool that does not use its order book (status 6 or 7, the only ones that are quoted) does not
touch the market: its address fills the places of the market's own accounts.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from service.amm import AmmV4Pool
from service.amm.raydium_amm_v4_account import AmmV4Account, pool_of_account
from service.chains.solana.addresses import TOKEN_PROGRAM, derived
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
    signer,
    writable,
)
from service.chains.solana.tokens import token_amount
from service.domain.quote import SwapMode

# A tag, what the user pays, what it receives.
_DATA = struct.Struct("<BQQ")
_TAGS = {SwapMode.EXACT_IN: 9, SwapMode.EXACT_OUT: 11}
_MODES = {tag: mode for mode, tag in _TAGS.items()}
_ACCOUNTS = 18
# The market's bids, asks, event queue and two vaults, which stand after the market.
_MARKET_ACCOUNTS = 5


@dataclass(frozen=True, slots=True)
class AmmV4OnChain:
    """An AMM v4 pool and the addresses of its accounts."""

    addresses: PoolAddresses
    authority: Pubkey
    open_orders: Pubkey
    target_orders: Pubkey
    market_program: Pubkey
    market: Pubkey

    def state_accounts(self) -> tuple[Pubkey, ...]:
        """Return the pool's account and its vaults."""
        return self.addresses.pool, self.addresses.token_a.vault, self.addresses.token_b.vault

    def state(self, data: Mapping[Pubkey, bytes]) -> AmmV4Pool:
        """Return the pool's state from accounts of one read.

        Raises:
            StateIncompleteError: An account is missing.
            MalformedStateError: An account is not what it should be.
        """
        pool = self.addresses
        return pool_of_account(
            AmmV4Account.decode(account(data, pool.pool)),
            vault_coin=token_amount(account(data, pool.token_a.vault)),
            vault_pc=token_amount(account(data, pool.token_b.vault)),
        )

    def instruction(self, swap: LegSwap, user: UserAccounts) -> Instruction:
        """Return the instruction of a swap; the accounts do not depend on its direction."""
        accounts = [
            readonly(TOKEN_PROGRAM),
            writable(self.addresses.pool),
            readonly(self.authority),
            writable(self.open_orders),
            writable(self.target_orders),
            writable(self.addresses.token_a.vault),
            writable(self.addresses.token_b.vault),
            readonly(self.market_program),
            writable(self.market),
            *[writable(self.market)] * _MARKET_ACCOUNTS,
            readonly(self.market),
            writable(user.source),
            writable(user.destination),
            signer(user.owner),
        ]
        data = _DATA.pack(_TAGS[swap.mode], swap.amount_in, swap.amount_out)
        return Instruction(self.addresses.program, data, accounts)


class AmmV4Program:
    """The AMM v4 program at its address on a cluster."""

    def __init__(self, program: Pubkey) -> None:
        self.id = program
        self._authority = derived(program, b"amm authority")

    def open(self, pool: Pubkey, data: bytes) -> AmmV4OnChain:
        """Return a pool from its account.

        Raises:
            MalformedStateError: The account is not a pool of this program.
        """
        found = AmmV4Account.decode(data)
        addresses = PoolAddresses(
            self.id, pool, _side(found.coin_mint, found.coin_vault), _side(found.pc_mint, found.pc_vault)
        )
        return AmmV4OnChain(
            addresses,
            self._authority,
            Pubkey.from_bytes(found.open_orders),
            Pubkey.from_bytes(found.target_orders),
            Pubkey.from_bytes(found.market_program),
            Pubkey.from_bytes(found.market),
        )

    def decode(self, accounts: Sequence[Pubkey], data: bytes) -> DecodedSwap:
        """Decode an instruction of this program.

        Raises:
            UnknownInstructionError: It is not a swap.
        """
        if len(data) != _DATA.size or data[0] not in _MODES:
            raise UnknownInstructionError("not a swap of AMM v4")
        check_accounts(accounts, _ACCOUNTS, {0: TOKEN_PROGRAM, 2: self._authority})
        tag, amount_in, amount_out = _DATA.unpack(data)
        return DecodedSwap(
            self.id,
            accounts[1],
            UserAccounts(accounts[17], accounts[15], accounts[16]),
            (accounts[5], accounts[6]),
            _MODES[tag],
            amount_in,
            amount_out,
        )


def _side(mint: bytes, vault: bytes) -> TokenSide:
    return TokenSide(Pubkey.from_bytes(mint), Pubkey.from_bytes(vault), TOKEN_PROGRAM)
