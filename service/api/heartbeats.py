"""Heartbeats of WebSockets: every client is pinged every 20 s, and one that was silent for 60 s is found.

One timer serves all sockets. They are spread over 20 groups, and each second one group is pinged, so that
thousands of clients that connected at the same moment are not pinged at the same moment.
"""

import asyncio

from service.api.client_socket import ClientSocket
from service.clock import Clock

BEAT_EVERY_S = 1.0
"""How often ``beat`` must be called."""

_GROUPS = 20
_SILENT_AFTER_S = 60.0


class Heartbeats:
    """Pings the clients, and finds the silent ones.

    Args:
        clock: Measures the time between two beats.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat_at = clock.monotonic()
        # Seconds in which this process could have heard something: while it is stopped, no client is silent.
        self._listened_s = 0.0
        # Each socket, and ``_listened_s`` when it was last heard.
        self._groups: list[dict[ClientSocket, float]] = [{} for _ in range(_GROUPS)]
        self._next = 0

    def add(self, socket: ClientSocket) -> None:
        """Add a socket."""
        min(self._groups, key=len)[socket] = self._listened_s

    def remove(self, socket: ClientSocket) -> None:
        """Remove a socket."""
        for group in self._groups:
            group.pop(socket, None)

    async def beat(self) -> list[ClientSocket]:
        """Ping the sockets whose turn it is, and return those whose client was silent for too long."""
        now = self._clock.monotonic()
        self._listened_s += min(now - self._beat_at, 2 * BEAT_EVERY_S)
        self._beat_at = now
        silent = []
        for group in filter(None, self._groups):
            silent += self._silent_in(group)
            await asyncio.sleep(0)
        turn = self._groups[self._next]
        self._next = (self._next + 1) % _GROUPS
        for socket in list(turn):
            if socket.is_backed_up:
                # It cannot answer what it does not get; the limits for slow clients apply.
                socket.heard = True
            else:
                await socket.ping()
            await asyncio.sleep(0)
        return silent

    def _silent_in(self, group: dict[ClientSocket, float]) -> list[ClientSocket]:
        silent = []
        for socket, heard_at in group.items():
            if socket.heard:
                socket.heard = False
                group[socket] = self._listened_s
            elif self._listened_s - heard_at >= _SILENT_AFTER_S:
                silent.append(socket)
                # It is being closed now, which takes a moment.
                group[socket] = self._listened_s
        return silent
