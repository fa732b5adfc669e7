"""Leadership: one of the processes that share a database leads, by a lease that it renews before it expires.

The lease is in the table of leases (``leases.py``), or, if each of the leader's writes must check the epoch,
beside the rows that it writes.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from service.background import Background
from service.clock import Clock
from service.postgres.database import UnavailableError

log = logging.getLogger(__name__)

LEASE_MS = 3_000
"""How long a lease lasts unless it is renewed."""

_RENEW_EVERY_S = 1.0
_STALLED_AFTER_S = 10.0
# Long enough for the lease to expire and for another process to take it.
_STAND_ASIDE_S = LEASE_MS / 1000 + _RENEW_EVERY_S
# Every follower checks when a lease expires; those that do not get it need not check again at once.
_SHORTEST_PAUSE_S = 0.05


class LeaseState(NamedTuple):
    """Which process leads.

    Attributes:
        epoch: The number of the leadership, if this process leads; unchanged only if no other process can
            have led in between. None: another leads.
        left_s: Seconds until the other process's lease expires, unless it is renewed.
    """

    epoch: int | None
    left_s: float


class Lease(Protocol):
    """One process's view of a lease. Methods raise ``UnavailableError`` if PostgreSQL is unavailable."""

    async def take(self, epoch: int | None) -> LeaseState:
        """Renew the lease of an epoch; if that is None or over, take the lease unless another leads."""
        ...

    async def give_up(self, epoch: int) -> None:
        """Release the lease, so that another process can lead at once."""
        ...


class Leadership:
    """Whether this process leads. A background loop takes the lease and renews it.

    ::

                    the lease is free, or has expired
        following ------------------------------------> leading in an epoch --+
            ^ |                                           |       ^           | renewed each second
            | | another leads: checked when               |       +-----------+
            +-+ its lease expires                         |
            ^                                             |
            +---------------------------------------------+
              another has taken over, PostgreSQL is unavailable, the epoch was abandoned,
              or the leader has made no progress for 10 s: then it lets the lease expire

    ``stop`` releases the lease, so that another process leads at once. The lease of a dead process expires.

    Args:
        lease: The lease.
        clock: Times the checks.
        name: The leader's task, for the log.
        retry_s: The pause before the next check when PostgreSQL was unavailable.
        on_change: Called when ``epoch`` has changed. Must not block.
        progress: Returns when the leader last completed work, by the clock's monotonic time; a leader that
            is idle completes some each second. None: whoever holds the lease makes progress.
    """

    def __init__(
        self,
        lease: Lease,
        clock: Clock,
        *,
        name: str,
        retry_s: float,
        on_change: Callable[[], None],
        progress: Callable[[], float] | None = None,
    ) -> None:
        self._lease = lease
        self._clock = clock
        self._name = name
        self._retry_s = retry_s
        self._on_change = on_change
        self._progress = progress or clock.monotonic
        self._epoch: int | None = None
        # Since when this process has held the lease, in whatever epochs, and when it last took or renewed it.
        self._held_since: float | None = None
        self._renewed_at = 0.0
        self._next_check = 0.0
        self._check_now = asyncio.Event()
        self._loop = Background(f"{name}: lease", self._check_forever, clock)

    @property
    def epoch(self) -> int | None:
        """The epoch in which this process leads; None while it follows."""
        return self._epoch

    async def check(self) -> None:
        """Take the lease or renew it now.

        Raises:
            UnavailableError: PostgreSQL is unavailable, so this process follows.
        """
        now = self._clock.monotonic()
        if now - self._renewed_at > LEASE_MS / 1000:
            # The lease has expired: this process, or PostgreSQL, was away.
            self._held_since = None
        if self._held_since is not None and now - max(self._held_since, self._progress()) > _STALLED_AFTER_S:
            # Small statements such as a renewal may pass where those of the leader's work do not.
            log.warning("%s: no progress, leaving the lease to others", self._name)
            self._next_check, self._held_since = now + _STAND_ASIDE_S, None
            self._become(None)
            return
        self._next_check = now + self._retry_s
        try:
            state = await self._take()
        except UnavailableError as error:
            if self._epoch is not None:
                log.warning(
                    "%s: PostgreSQL is unavailable (%s)", self._name, error, extra={"fault": "postgresql"}
                )
            self._become(None)
            raise
        self._renewed_at = now
        if state.epoch is None:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = now
        pause_s = _RENEW_EVERY_S
        if state.epoch is None:
            # Just after the lease would expire.
            pause_s = min(state.left_s + _SHORTEST_PAUSE_S, pause_s)
        self._next_check = self._clock.monotonic() + pause_s
        self._become(state.epoch)

    def start(self) -> None:
        """Begin to check, at once or at the time that the last check set."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop checking, and release the lease. Call it after the leader's work has stopped."""
        await self._loop.stop()
        epoch, self._epoch = self._epoch, None
        if epoch is None:
            return
        try:
            await self._lease.give_up(epoch)
        except UnavailableError as error:
            log.debug("%s: cannot release the lease, it will expire (%s)", self._name, error)

    def abandon(self, epoch: int) -> None:
        """Stop leading in an epoch, if it is the current one, and check again at once."""
        if epoch == self._epoch:
            self._next_check = 0.0
            self._check_now.set()
            self._become(None)

    async def _take(self) -> LeaseState:
        while True:
            epoch = self._epoch
            state = await self._lease.take(epoch)
            # Otherwise the epoch was abandoned meanwhile (nothing else changes it), and the renewed lease is
            # not wanted.
            if epoch == self._epoch:
                return state

    def _become(self, epoch: int | None) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._on_change()

    async def _check_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._next_check - self._clock.monotonic())):
                    await self._check_now.wait()
            except TimeoutError:
                pass
            self._check_now.clear()
            try:
                await self.check()
            except UnavailableError as error:
                log.debug("%s: PostgreSQL is unavailable (%s)", self._name, error)
