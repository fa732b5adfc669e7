"""A Solana chain on this machine, for the venue that is to trade on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class LocalPool(NamedTuple):
    """A pool, and the program that owns it: addresses in base58."""

    program: str
    address: str


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A chain of test tokens.

    Attributes:
        url: Where it answers; None: the settings say where.
        wallet_key: The 64 bytes of its funded wallet's keys.
        pools: Its pools.
    """

    url: str | None
    wallet_key: bytes = field(repr=False)
    pools: Sequence[LocalPool]
