"""What is known of each cluster: its genesis hash, and where it has the programs."""

from typing import NamedTuple

from solders.pubkey import Pubkey

from service.chains.solana.programs.registry import MAINNET, ProgramIds
from service.solana_settings import Cluster


class KnownCluster(NamedTuple):
    """A cluster.

    Attributes:
        genesis_hash: Its identity; None: each start of it has another one.
        ids: Its programs.
    """

    genesis_hash: str | None
    ids: ProgramIds


CLUSTERS = {
    Cluster.SANDBOX: KnownCluster(None, MAINNET),
    # Raydium has other programs there than on mainnet.
    Cluster.DEVNET: KnownCluster(
        "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG",
        ProgramIds(
            Pubkey.from_string("DRaycpLY18LhpbydsBWbVJtxpNv9oXPgjRSfpF2bWpYb"),
            Pubkey.from_string("DRaya7Kj3aMWQSy19kSjvmuwq9docCHofyP9kanQGaav"),
            MAINNET.meteora_dlmm,
            MAINNET.meteora_damm_v2,
        ),
    ),
    Cluster.MAINNET: KnownCluster("5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d", MAINNET),
}
