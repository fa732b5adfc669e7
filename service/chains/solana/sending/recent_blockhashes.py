"""Keeps the blockhashes of the last blocks, so that there is one for every end that an order may have."""

import logging

from service.background import Background
from service.chains.solana.blockhashes import BlockhashRing, RecentBlockhash
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.preparation import SharedCalls, latest_blockhash
from service.chains.venue import VenueUnavailableError
from service.clock import Clock

log = logging.getLogger(__name__)

KEEP_EVERY_S = 2.0
"""How far apart the blockhashes are, which is how much earlier than asked for a transaction may end."""


class RecentBlockhashes:
    """The blockhashes of the last 26 s, and the newest one when it is asked for.

    Args:
        endpoints: Those of the cluster.
        clock: Times the calls.
    """

    def __init__(self, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._ring = BlockhashRing()
        self._calls = SharedCalls[None]()
        self._keeping = Background("solana blockhashes", self._keep_forever, clock)

    def start(self) -> None:
        """Begin to keep them."""
        self._keeping.start()

    async def stop(self) -> None:
        """Stop."""
        await self._keeping.stop()

    async def renew(self) -> None:
        """Ask for the newest one; all who ask at one time share the call.

        Raises:
            RpcError: The nodes refuse the call.
            VenueUnavailableError: No node answered.
        """
        await self._calls.share("blockhash", self._ask)

    def choose(self, seconds_left: float | None, block_s: float) -> RecentBlockhash:
        """Return the youngest blockhash whose blocks are over in time; see ``BlockhashRing.choose``.

        Args:
            seconds_left: How long from now the transaction may be able to land; None: as long as possible.
            block_s: The measured time between blocks.

        Raises:
            SwapTooLateError: None leaves the transaction enough blocks.
            VenueUnavailableError: What nodes have answered contradicts itself.
        """
        if self._ring.is_empty:
            raise VenueUnavailableError("what the nodes say of their blockhashes contradicts itself")
        return self._ring.choose(seconds_left, block_s)

    async def _ask(self) -> None:
        self._ring.add(await latest_blockhash(self._endpoints))
        if self._ring.has_one_alone:
            # Also of a chain that has stood still: the others are too old then to be chosen from.
            self._ring.add(await latest_blockhash(self._endpoints))

    async def _keep_forever(self) -> None:
        while True:
            try:
                await self.renew()
            except (RpcError, VenueUnavailableError) as error:
                log.info("no blockhash: %s", error)
            await self._clock.sleep(KEEP_EVERY_S)
