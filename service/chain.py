"""The chain that is the venue, if one is: built from the settings before any server is started.

It needs none of the service's servers. So what is wrong with its endpoints, lists and signer is said at once,
and a key that is in a variable is out of the environment before another process inherits it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.chains.factory import BuiltVenue, build_chain_venue
from service.chains.local_cluster import LocalCluster
from service.clock import Clock
from service.sandbox.embedded import EmbeddedSandbox, open_embedded, sandbox_elsewhere
from service.settings import Settings
from service.solana_settings import Cluster


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain to trade on.

    Attributes:
        venue: The venue; None: it is the paper market, which is no chain.
        sandbox: The chain itself, if it runs in this process; bound, not started.
    """

    venue: BuiltVenue | None
    sandbox: EmbeddedSandbox | None = None


def build_chain(settings: Settings, clock: Clock) -> Chain:
    """Return the chain to trade on; nothing is called yet.

    Raises:
        InvalidSettingError: A setting names something that cannot be used.
    """
    if not _has_own_chain(settings):
        return Chain(build_chain_venue(settings, clock, _elsewhere(settings, clock)))
    sandbox = EmbeddedSandbox(clock, settings.data_dir)
    try:
        return Chain(build_chain_venue(settings, clock, sandbox.cluster), sandbox)
    except BaseException:
        sandbox.close()
        raise


@asynccontextmanager
async def open_local_chain(settings: Settings, clock: Clock) -> AsyncIterator[LocalCluster | None]:
    """Open the sandbox that the venue is on, to read it beside the service; None: it is on none.

    Raises:
        ChainDataError: It is kept in a folder, and damaged.
    """
    if _has_own_chain(settings):
        async with open_embedded(clock, settings.data_dir) as local:
            yield local
    else:
        yield _elsewhere(settings, clock)


def _has_own_chain(settings: Settings) -> bool:
    return settings.solana is not None and settings.solana.has_own_chain


def _elsewhere(settings: Settings, clock: Clock) -> LocalCluster | None:
    """Return what the venue must know of a sandbox that another process runs; None: it is on none."""
    solana = settings.solana
    return sandbox_elsewhere(clock) if solana and solana.cluster is Cluster.SANDBOX else None
