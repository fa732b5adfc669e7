"""Request limits: how many requests a second each API key may send, across all instances.

The counters are in Redis, by the library limits. While Redis is unavailable each instance counts for itself:
no request is refused because Redis does not answer.
"""

import asyncio
import functools
import logging

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from redis.asyncio import Redis

from service.api.problems import TooManyRequestsError
from service.domain.api_key import Caller
from service.postgres.deployment import Deployment
from service.redis.link import REDIS_ERRORS, RedisLink, close, connect

log = logging.getLogger(__name__)

_WINDOW_S = 1
_REDIS_TIMEOUT_S = 0.5
_POLICY = "default"


class RequestLimits:
    """Counts requests.

    Args:
        link: Tells whether Redis is usable.
        deployment: Names the counters.
        per_second: How many requests each key without a limit of its own, or each address without a key, may
            send; 0: no limit.
    """

    def __init__(self, link: RedisLink, deployment: Deployment, per_second: int) -> None:
        self._link = link
        self._deployment = deployment
        self._per_second = per_second
        self._local = MemoryStorage()
        self._client: Redis | None = None
        self._shared: RedisStorage | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def count(self, caller: Caller, address: str | None) -> dict[str, str]:
        """Count a request, and return the headers that tell the caller its limit; none without a limit.

        Raises:
            TooManyRequestsError: The caller has sent too many in this second.
        """
        own = caller.limits.requests_per_second
        limit = self._per_second if own is None else own
        if not limit:
            return {}
        used = await self._add_one(_per_second(limit).key_for(caller.key_id or address or "unknown"))
        # draft-ietf-httpapi-ratelimit-headers
        headers = {
            "RateLimit-Policy": f'"{_POLICY}";q={limit};w={_WINDOW_S}',
            "RateLimit": f'"{_POLICY}";r={max(0, limit - used)};t={_WINDOW_S}',
        }
        if used > limit:
            problem = TooManyRequestsError(f"More than {limit} requests in a second.")
            problem.headers.update(headers)
            raise problem
        return headers

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._client is not None:
            self._close_later(self._client)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _add_one(self, key: str) -> int:
        if self._link.available:
            storage, client = self._storage(), self._client
            try:
                async with asyncio.timeout(_REDIS_TIMEOUT_S):
                    return await storage.incr(key, _WINDOW_S)
            except REDIS_ERRORS as error:
                # Its host name may lead to another server by now. Others may have replaced it already.
                if client is not None and client is self._client:
                    self._close_later(client)
                    self._client = self._shared = None
                log.warning(
                    "requests are counted by this process alone (%s)",
                    error,
                    extra={"fault": "request limits"},
                )
        return await self._local.incr(key, _WINDOW_S)

    def _close_later(self, client: Redis) -> None:
        closing = asyncio.create_task(close(client), name="redis close")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _storage(self) -> Storage:
        if self._shared is None:
            # With our connections, because the library knows fewer options of REDIS_URL.
            self._client = connect(self._link.url)
            self._shared = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=self._deployment.name("requests"),
                connection_pool=self._client.connection_pool,  # type: ignore[arg-type]
            )
        return self._shared


@functools.lru_cache(maxsize=256)
def _per_second(requests: int) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(requests, _WINDOW_S)
