"""The HTTP client of the endpoints. Nothing here logs or returns a URL, which may contain a key."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    ClientWebSocketResponse,
    DummyCookieJar,
    TCPConnector,
    TraceConfig,
    hdrs,
)
from yarl import URL

from service.clock import Clock

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer, after decompression."""

_LARGEST_MESSAGE = 4 * 1024 * 1024
_USER_AGENT = "order-execution-engine"
_KEEP_ALIVE_S = 15.0
_HEARTBEAT_S = 20.0
_OPEN_TIMEOUT_S = 5.0


class WireError(Exception):
    """No response came; the message says why, without the URL.

    Attributes:
        disconnected: Whether there was no connection, or it broke: the server may have been replaced.
    """

    def __init__(self, reason: str, *, disconnected: bool = False) -> None:
        super().__init__(reason)
        self.disconnected = disconnected


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of HTTP.

    Attributes:
        status: Its status.
        body: Its body.
        retry_after_s: In how many seconds the server wants to be called again, if it said so.
    """

    status: int
    body: bytes
    retry_after_s: float | None


class Wire:
    """An HTTP client that follows no redirects, and uses no proxy and no cookies."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._posts: ClientSession | None = None
        self._sockets: ClientSession | None = None

    def start(self) -> None:
        """Open the client; it belongs to the running event loop."""
        self._posts = _open_session([])
        # Apart, since tracing costs every request a tenth more.
        self._sockets = _open_session([_without_redirects()])

    async def stop(self) -> None:
        """Close the client."""
        for session in (self._posts, self._sockets):
            if session is not None:
                await session.close()

    async def post(self, url: str, body: bytes, timeout_s: float) -> Reply:
        """Post JSON, and return the response, whatever its status.

        Raises:
            WireError: No response came in time.
        """
        headers = {hdrs.CONTENT_TYPE: "application/json"}
        try:
            async with (
                asyncio.timeout(timeout_s),
                _started(self._posts).post(
                    URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
                ) as response,
            ):
                return Reply(response.status, await _read(response), self._retry_after_s(response))
        except TimeoutError:
            raise WireError(f"it did not answer within {timeout_s:.3g} s") from None
        except (ClientError, OSError, ValueError) as error:
            raise WireError(_reason(error), disconnected=True) from None

    async def open_socket(self, url: str) -> ClientWebSocketResponse:
        """Open a WebSocket.

        Raises:
            WireError: It could not be opened.
        """
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                return await _started(self._sockets).ws_connect(
                    URL(url, encoded=True), heartbeat=_HEARTBEAT_S, max_msg_size=_LARGEST_MESSAGE
                )
        except TimeoutError:
            raise WireError(f"it did not answer within {_OPEN_TIMEOUT_S:g} s") from None
        except (ClientError, OSError, ValueError) as error:
            raise WireError(_reason(error), disconnected=True) from None

    def _retry_after_s(self, response: ClientResponse) -> float | None:
        """Return the seconds of a Retry-After, which may be a date; None: it is missing or malformed."""
        text = response.headers.get(hdrs.RETRY_AFTER)
        if text is None:
            return None
        # Longer numbers would be no times.
        if text.isascii() and text.isdigit() and len(text) < 10:
            return float(text)
        try:
            at = parsedate_to_datetime(text)
            now = datetime.fromtimestamp(self._clock.time_ms() / 1000, UTC)
            return max(0.0, at.timestamp() - now.timestamp())
        except (ValueError, OverflowError):
            return None


def _open_session(trace_configs: list[TraceConfig]) -> ClientSession:
    return ClientSession(
        connector=TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
        timeout=ClientTimeout(total=None),
        cookie_jar=DummyCookieJar(),
        headers={hdrs.USER_AGENT: _USER_AGENT},
        trust_env=False,
        trace_configs=trace_configs,
    )


def _started(session: ClientSession | None) -> ClientSession:
    if session is None:
        raise RuntimeError("the client has not been started")
    return session


def _without_redirects() -> TraceConfig:
    """Return what ends every request that is redirected: a WebSocket's has no parameter for that."""

    async def refuse(*_: object) -> None:
        raise ClientError

    tracing = TraceConfig()
    tracing.on_request_redirect.append(refuse)
    return tracing


async def _read(response: ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise WireError(f"its answer has more than {LARGEST_ANSWER:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _reason(error: Exception) -> str:
    """Return why a call failed; the exception's own text may have the URL."""
    if isinstance(error, ClientSSLError):
        return "the TLS connection failed"
    if isinstance(error, ClientConnectorError):
        return "it cannot be connected to"
    return "the connection was lost"
