"""All open WebSockets: opens them, and closes those of slow or silent clients and of refused keys.

One timer of each kind checks all sockets.
"""

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from aiohttp import WSCloseCode, web

from service.api.access import CALLER, STREAM_PROTOCOL, Access
from service.api.client_socket import CLOSE_TIMEOUT_S, ClientSocket, SendAll
from service.api.close_codes import SILENT, TOO_SLOW, UNAUTHORIZED
from service.api.heartbeats import BEAT_EVERY_S, Heartbeats
from service.api.problems import ServiceUnavailableError, UpgradeError
from service.api.socket_limits import SocketLimits
from service.background import Background
from service.clock import Clock
from service.postgres.database import UnavailableError

log = logging.getLogger(__name__)

_CHECK_KEYS_EVERY_S = 1.0
_LARGEST_MESSAGE_IN = 4 * 1024


class Sockets:
    """The open WebSockets of this instance.

    Args:
        clock: Measures how slow and how silent clients are.
        access: Says whose keys are still in force.
    """

    def __init__(self, clock: Clock, access: Access) -> None:
        self._clock = clock
        self._access = access
        self._limits = SocketLimits()
        self._heartbeats = Heartbeats(clock)
        self._open: set[ClientSocket] = set()
        self._stopping = False
        self._watchdog = Background("sockets", self._check_forever, clock)
        self._key_watchdog = Background("sockets' keys", self._check_keys_forever, clock)

    def start(self) -> None:
        """Start to ping, and to close sockets."""
        self._watchdog.start()
        self._key_watchdog.start()

    @contextmanager
    def upgrade(self, request: web.Request) -> Iterator[web.WebSocketResponse]:
        """Count the socket that a request asks for, and yield it, not prepared yet.

        It is counted before the work that a stream begins with, so that a key cannot have that done for
        sockets that it may not open.

        Raises:
            UpgradeError: The request does not ask for one.
            TooManyRequestsError: The caller's key has as many sockets open as it may have.
        """
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            autoping=False,
            compress=False,
            max_msg_size=_LARGEST_MESSAGE_IN,
            protocols=(STREAM_PROTOCOL,),
        )
        if not socket.can_prepare(request).ok:
            raise UpgradeError("This route requires a WebSocket upgrade.")
        with self._limits.count(request[CALLER]):
            yield socket

    async def serve(
        self, request: web.Request, socket: web.WebSocketResponse, send_all: SendAll
    ) -> web.WebSocketResponse:
        """Open a socket, send a stream's messages, and return the closed socket.

        Args:
            request: The request.
            socket: What ``upgrade`` has yielded for it.
            send_all: Sends the messages.

        Raises:
            ServiceUnavailableError: The service is stopping.
        """
        if self._stopping:
            raise ServiceUnavailableError("The service is stopping; connect again.")
        await socket.prepare(request)
        client = ClientSocket(socket, request.transport, self._clock, request[CALLER])
        self._open.add(client)
        self._heartbeats.add(client)
        try:
            await client.run(send_all)
        finally:
            self._heartbeats.remove(client)
            self._open.discard(client)
            client.ended.set()
        return socket

    async def stop(self) -> None:
        """Close every socket when the service stops: clients reconnect and resume."""
        self._stopping = True
        await self._watchdog.stop()
        await self._key_watchdog.stop()
        clients = list(self._open)
        _end(clients, WSCloseCode.SERVICE_RESTART, b"restarting")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                for client in clients:
                    await client.ended.wait()
        except TimeoutError:
            for client in clients:
                client.abort()

    async def _check_forever(self) -> None:
        """Ping the clients, and close the sockets of silent clients and of slow ones."""
        while True:
            await self._clock.sleep(BEAT_EVERY_S)
            if silent := await self._heartbeats.beat():
                log.info("disconnecting %d silent clients", len(silent))
                _end(silent, SILENT, b"silent")
            if slow := [client for client in self._open if client.is_stuck]:
                log.info("disconnecting %d slow clients", len(slow))
                _end(slow, TOO_SLOW, b"too slow")

    async def _check_keys_forever(self) -> None:
        """Close the sockets whose API key has expired or was revoked."""
        while True:
            await self._clock.sleep(_CHECK_KEYS_EVERY_S)
            callers = {client.caller for client in self._open}
            if not callers:
                continue
            try:
                refused = {caller for caller in callers if not await self._access.is_active(caller)}
            except UnavailableError as error:
                log.debug("API keys could not be read (%s)", error)
                continue
            if refused:
                ending = [client for client in self._open if client.caller in refused]
                _end(ending, UNAUTHORIZED, b"the API key is not valid any more")


def _end(clients: Collection[ClientSocket], code: int, reason: bytes) -> None:
    for client in clients:
        client.end(code, reason)
