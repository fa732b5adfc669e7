"""When to read: polls, notifications and requests share reads.

Whatever asks for a read while another one is running gets the next one, together with all others that ask.
Hints wait until the last read that a hint caused is a while ago; requests do not.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from service.background import Background
from service.chains.solana.rpc.errors import RpcError
from service.chains.venue import VenueUnavailableError
from service.clock import Clock

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Wanted:
    """What the next read has to read.

    Attributes:
        everything: Whether it has to read all pools.
        min_slots: Pools that changed, and the slot in which; 0: in any.
        min_slot: The oldest slot for all of them; 0: any.
    """

    everything: bool = False
    min_slots: dict[str, int] = field(default_factory=dict)
    min_slot: int = 0

    def add(self, pool_ids: Collection[str] | None, min_slot: int) -> None:
        """Add pools, or all for None."""
        if pool_ids is None:
            self.everything = True
            self.min_slot = max(self.min_slot, min_slot)
        for pool_id in pool_ids or ():
            self.min_slots[pool_id] = max(min_slot, self.min_slots.get(pool_id, 0))

    def merge(self, other: "Wanted") -> None:
        """Add what another one has."""
        if other.everything:
            self.add(None, other.min_slot)
        for pool_id, min_slot in other.min_slots.items():
            self.add([pool_id], min_slot)


Read = Callable[[Wanted], Awaitable[None]]
"""Reads, and raises ``VenueUnavailableError`` if any part of it could not be read."""


class Reader:
    """Makes one read at a time.

    Args:
        read: Makes it.
        clock: Times the pauses.
        hint_gap_s: The least time between two reads that hints cause.
    """

    def __init__(self, read: Read, clock: Clock, *, hint_gap_s: float) -> None:
        self._read = read
        self._clock = clock
        self._hint_gap_s = hint_gap_s
        self._hints = Wanted()
        self._hinted = asyncio.Event()
        self._next: _Upcoming | None = None
        self._stopped = False
        self._asked = asyncio.Event()
        self._reads = Background("solana reads", self._read_forever, clock)
        self._passing = Background("solana hints", self._pass_forever, clock)

    def start(self) -> None:
        """Begin to read."""
        self._reads.start()
        self._passing.start()

    async def stop(self) -> None:
        """Stop reading; a request that waits for a read, or comes later, gets an error."""
        self._stopped = True
        await self._passing.stop()
        await self._reads.stop()
        if self._next is not None:
            _fail(self._next.done, VenueUnavailableError("the pools are no longer read"))

    def hint(self, pool_ids: Collection[str] | None = None, min_slot: int = 0) -> None:
        """Have pools read soon, or all for None."""
        self._hints.add(pool_ids, min_slot)
        self._hinted.set()

    async def look(self, pool_ids: Collection[str] | None = None, min_slot: int = 0) -> None:
        """Read pools, or all for None, and return when the read that began after this call has ended.

        Raises:
            VenueUnavailableError: They could not be read.
        """
        if self._stopped:
            raise VenueUnavailableError("the pools are no longer read")
        upcoming = self._upcoming()
        upcoming.wanted.add(pool_ids, min_slot)
        self._asked.set()
        await asyncio.shield(upcoming.done)

    def _upcoming(self) -> "_Upcoming":
        if self._next is None:
            self._next = _Upcoming(Wanted(), asyncio.get_running_loop().create_future())
        return self._next

    async def _pass_forever(self) -> None:
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            hints, self._hints = self._hints, Wanted()
            self._upcoming().wanted.merge(hints)
            self._asked.set()
            await self._clock.sleep(self._hint_gap_s)

    async def _read_forever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            upcoming, self._next = self._upcoming(), None
            done = upcoming.done
            try:
                await self._read(upcoming.wanted)
            except (VenueUnavailableError, RpcError) as error:
                log.warning("solana: pools could not be read (%s)", error, extra={"fault": "solana reads"})
                _fail(done, VenueUnavailableError(str(error)))
            except BaseException:
                _fail(done, VenueUnavailableError("the pools could not be read"))
                raise
            else:
                if not done.done():
                    done.set_result(None)


class _Upcoming(NamedTuple):
    """The next read: what it has to read, and how those who wait for it learn of its end."""

    wanted: Wanted
    done: asyncio.Future[None]


def _fail(done: asyncio.Future[None], error: VenueUnavailableError) -> None:
    """End a read with an error, which nobody may be waiting for."""
    if not done.done():
        done.set_exception(error)
        done.exception()
