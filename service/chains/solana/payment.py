"""The most that a transaction may take from the wallet, from its bytes alone. Pure."""

from typing import NamedTuple

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.receipt import decoded_swaps


class Payment(NamedTuple):
    """What a transaction may take from an account of the wallet, in base units."""

    source: Pubkey
    amount: int


def payment_of(raw: bytes, programs: AmmPrograms) -> Payment:
    """Return what the first legs of a transaction may sell; later legs sell what these bought.

    Args:
        raw: The transaction's bytes, as built by ``builder``.
        programs: The programs of the cluster.
    """
    swaps = decoded_swaps(VersionedTransaction.from_bytes(raw), programs)
    source = swaps[0].user.source
    return Payment(source, sum(swap.amount_in for swap in swaps if swap.user.source == source))
