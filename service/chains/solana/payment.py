"""The most that a transaction may take from the wallet, from its bytes alone. Pure."""

from typing import NamedTuple

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import SYSTEM_PROGRAM
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.receipt import decoded_swaps

# The place of the new account among those of the instruction that creates it; the first one pays.
_NEW_ACCOUNT = 1


class Payment(NamedTuple):
    """What a transaction may take from the wallet, in base units.

    Attributes:
        source: The wallet's account that pays; None: it is SOL, from an account of the transaction's own.
        amount: The most that it takes.
    """

    source: Pubkey | None
    amount: int


def payment_of(raw: bytes, programs: AmmPrograms) -> Payment:
    """Return what the first legs of a transaction may sell; later legs sell what these bought.

    Args:
        raw: The transaction's bytes, as built by ``builder``.
        programs: The programs of the cluster.
    """
    transaction = VersionedTransaction.from_bytes(raw)
    swaps = decoded_swaps(transaction, programs)
    source = swaps[0].user.source
    amount = sum(swap.amount_in for swap in swaps if swap.user.source == source)
    return Payment(None if source in _opened(transaction) else source, amount)


def _opened(transaction: VersionedTransaction) -> set[Pubkey]:
    """Return the account for wrapped SOL: the only one that the system program opens in a transaction."""
    message = transaction.message
    keys = message.account_keys
    return {
        keys[each.accounts[_NEW_ACCOUNT]]
        for each in message.instructions
        if keys[each.program_id_index] == SYSTEM_PROGRAM
    }
