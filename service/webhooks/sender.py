"""Posts messages to endpoints, signed by the Standard Webhooks convention.

Nothing here logs or returns a URL, which may contain a token, or a response's body.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    hdrs,
)
from standardwebhooks.webhooks import Webhook

from service.clock import Clock
from service.domain.webhook import WebhookAnswer, answer_of
from service.webhooks.addresses import NameResolver, PrivateAddressError, find_fault, open_public_socket

_USER_AGENT = "order-execution-engine"
_KEEP_ALIVE_S = 15.0
_CHECK_THREADS = 4


class WebhookSender:
    """The HTTP client for endpoints. It follows no redirects, and uses no proxy and no cookies.

    Args:
        clock: Dates the signatures, in PostgreSQL's time, on which all instances agree.
        timeout_s: For one attempt, until the response's head has arrived.
        allow_private: Whether any address may be called, and without TLS.
    """

    def __init__(self, clock: Clock, *, timeout_s: float, allow_private: bool) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._resolver = NameResolver()
        # Whoever registers names whose servers do not answer must not hold the threads of deliveries.
        self._check_resolver = NameResolver(_CHECK_THREADS)
        self._session: ClientSession | None = None

    def start(self) -> None:
        """Open the client; it belongs to the running event loop."""
        connector = TCPConnector(
            limit=0,  # whoever sends limits how much at once
            resolver=self._resolver,
            socket_factory=None if self._allow_private else open_public_socket,
            keepalive_timeout=_KEEP_ALIVE_S,
        )
        self._session = ClientSession(
            connector=connector,
            timeout=ClientTimeout(total=None),
            cookie_jar=DummyCookieJar(),
            headers={hdrs.USER_AGENT: _USER_AGENT, hdrs.CONTENT_TYPE: "application/json"},
            auto_decompress=False,
            trust_env=False,
        )

    async def stop(self) -> None:
        """Close the client."""
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()
        await self._check_resolver.close()

    async def find_fault(self, url: str) -> str | None:
        """Return why a URL cannot be an endpoint, for the client; None: it can."""
        return await find_fault(url, self._check_resolver, allow_private=self._allow_private)

    async def post(self, url: str, secrets: Sequence[bytes], message_id: str, body: bytes) -> WebhookAnswer:
        """Post a message once, and return what its endpoint answered."""
        if self._session is None:
            raise RuntimeError("the sender has not been started")
        headers = self._sign(secrets, message_id, body)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                retry_after_s = self._seconds(response.headers.get(hdrs.RETRY_AFTER))
                return answer_of(response.status, retry_after_s)
        except TimeoutError:
            return WebhookAnswer(f"It did not answer within {self._timeout_s:g} s.")
        except ClientSSLError:
            return WebhookAnswer("The TLS connection failed.")
        except ClientConnectorError as error:
            if isinstance(error.os_error, PrivateAddressError):
                return WebhookAnswer(str(error.os_error))
            return WebhookAnswer("It cannot be connected to.")
        except (ClientError, OSError, ValueError):
            return WebhookAnswer("It did not answer in HTTP.")

    def _sign(self, secrets: Sequence[bytes], message_id: str, body: bytes) -> dict[str, str]:
        at = datetime.fromtimestamp(int(self._clock.database_time()), UTC)
        text = body.decode()
        signatures = (Webhook(secret).sign(message_id, at, text) for secret in secrets)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    def _seconds(self, retry_after: str | None) -> float | None:
        """Return the seconds of a Retry-After, which may be a date; None: it is missing or malformed."""
        if retry_after is None:
            return None
        # Longer numbers would be no times.
        if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
            return float(retry_after)
        try:
            at = parsedate_to_datetime(retry_after)
            return at.timestamp() - self._clock.database_time()
        except (ValueError, OverflowError):
            return None
