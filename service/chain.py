"""The chain that is the venue, if one is: built from the settings before any server is started.

It needs none of the service's servers. So what is wrong with its endpoints, lists and signer is said at once,
and a key that is in a variable is out of the environment before another process inherits it.
"""

from dataclasses import dataclass

from service.chains.factory import BuiltVenue, build_chain_venue
from service.chains.local_cluster import LocalCluster
from service.clock import Clock
from service.sandbox.embedded import EmbeddedSandbox, sandbox_elsewhere
from service.settings import Settings
from service.solana_settings import Cluster


def local_chain(settings: Settings, clock: Clock) -> tuple[EmbeddedSandbox | None, LocalCluster | None]:
    """Return the sandbox of this process, bound and not started, and what the venue must know of any sandbox.

    None: there is none in this process; the venue is on no sandbox.
    """
    solana = settings.solana
    if solana is None or solana.cluster is not Cluster.SANDBOX:
        return None, None
    if not solana.has_own_chain:
        return None, sandbox_elsewhere(clock)
    sandbox = EmbeddedSandbox(clock)
    return sandbox, sandbox.cluster


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
    sandbox, local = local_chain(settings, clock)
    try:
        return Chain(build_chain_venue(settings, clock, local), sandbox)
    except BaseException:
        if sandbox is not None:
            sandbox.close()
        raise
