"""The four programs of a cluster, by their addresses there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from service.amm.errors import MalformedStateError
from service.chains.solana.programs.meteora_damm_v2 import DammV2Program
from service.chains.solana.programs.meteora_dlmm import DlmmOnChain, DlmmProgram
from service.chains.solana.programs.pool import AmmProgram, DecodedSwap, OnChainPool, account
from service.chains.solana.programs.raydium_amm_v4 import AmmV4Program
from service.chains.solana.programs.raydium_cpmm import CpmmProgram


@dataclass(frozen=True, slots=True)
class ProgramIds:
    """Where a cluster has the programs; not every cluster has them at the same addresses."""

    raydium_cpmm: Pubkey
    raydium_amm_v4: Pubkey
    meteora_dlmm: Pubkey
    meteora_damm_v2: Pubkey


MAINNET = ProgramIds(
    Pubkey.from_string("CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C"),
    Pubkey.from_string("675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8"),
    Pubkey.from_string("LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo"),
    Pubkey.from_string("cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG"),
)


class AmmPrograms:
    """Opens pools and decodes instructions of the four programs."""

    def __init__(self, ids: ProgramIds) -> None:
        self.ids = ids
        programs: tuple[AmmProgram, ...] = (
            CpmmProgram(ids.raydium_cpmm),
            AmmV4Program(ids.raydium_amm_v4),
            DlmmProgram(ids.meteora_dlmm),
            DammV2Program(ids.meteora_damm_v2),
        )
        self._programs = {program.id: program for program in programs}

    def open(self, pool: Pubkey, owner: Pubkey, data: bytes) -> OnChainPool:
        """Return a pool from its account.

        Args:
            pool: The account's address.
            owner: The program that owns the account; only that proves what the data is.
            data: The account's data.

        Raises:
            MalformedStateError: The account is not a pool of one of the programs.
        """
        program = self._programs.get(owner)
        if program is None:
            raise MalformedStateError(f"{pool} belongs to {owner}, which is none of the programs")
        return program.open(pool, data)

    def reopen(self, opened: OnChainPool, data: Mapping[Pubkey, bytes]) -> OnChainPool:
        """Return a pool as of later accounts.

        Of a DLMM pool the bin arrays to read change, and it may have an extension of its bitmap, which
        ``open`` does not know.

        Args:
            opened: The pool.
            data: The data of its accounts, as far as they exist.

        Raises:
            StateIncompleteError: The pool's account is missing.
            MalformedStateError: An account is not what it should be.
        """
        if not isinstance(opened, DlmmOnChain):
            return opened
        pool = opened.addresses.pool
        program = DlmmProgram(opened.addresses.program)
        return program.open(pool, account(data, pool), data.get(opened.extension))

    def decode(self, program: Pubkey, accounts: Sequence[Pubkey], data: bytes) -> DecodedSwap | None:
        """Decode an instruction; None for one of any other program.

        Raises:
            UnknownInstructionError: It is one of these programs', and not a swap that this service builds.
        """
        found = self._programs.get(program)
        return None if found is None else found.decode(accounts, data)
