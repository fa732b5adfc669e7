"""Request limits: how many requests a second each API key may send, across all instances.

The counters are in Redis, by the library limits. While Redis is unavailable each instance counts for itself:
no request is refused because Redis does not answer.
"""

import logging
from typing import NamedTuple

from aiohttp import web
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from redis.asyncio import Redis

from service.api.problems import TooManyRequestsError
from service.domain.api_key import Caller
from service.postgres.deployment import Deployment
from service.redis.link import REDIS_ERRORS, RedisLink, connect

log = logging.getLogger(__name__)

_WINDOW_S = 1
_POLICY = "default"


class Allowance(NamedTuple):
    """A key's limit, and how many requests are left in this second."""

    limit: int
    left: int


ALLOWANCE = web.RequestKey("allowance", Allowance)
"""What a request's key may still send; absent without a limit."""


class RequestLimits:
    """Counts requests.

    Args:
        link: Tells whether Redis is usable.
        deployment: Names the counters.
        per_second: How many requests each key, or each address without one, may send; 0: no limit.
    """

    def __init__(self, link: RedisLink, deployment: Deployment, per_second: int) -> None:
        self._link = link
        self._deployment = deployment
        self._limit = RateLimitItemPerSecond(per_second, _WINDOW_S) if per_second else None
        self._local = MemoryStorage()
        self._client: Redis | None = None
        self._shared: RedisStorage | None = None

    async def count(self, request: web.Request, caller: Caller) -> None:
        """Count a request.

        Raises:
            TooManyRequestsError: The caller has sent too many in this second.
        """
        if self._limit is None:
            return
        who = caller.key_id or request.remote or "unknown"
        used = await self._add_one(self._limit.key_for(who))
        request[ALLOWANCE] = Allowance(self._limit.amount, max(0, self._limit.amount - used))
        if used > self._limit.amount:
            raise TooManyRequestsError(
                f"More than {self._limit.amount} requests in a second.", retry_after_s=_WINDOW_S
            )

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._client is not None:
            await self._client.aclose()

    async def _add_one(self, key: str) -> int:
        if self._link.available:
            try:
                return await self._storage().incr(key, _WINDOW_S)
            except REDIS_ERRORS as error:
                log.warning(
                    "requests are counted by this process alone (%s)",
                    error,
                    extra={"fault": "request limits"},
                )
        return await self._local.incr(key, _WINDOW_S)

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


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the caller its limit (draft-ietf-httpapi-ratelimit-headers)."""
    allowance = request.get(ALLOWANCE)
    if allowance is not None:
        response.headers["RateLimit-Policy"] = f'"{_POLICY}";q={allowance.limit};w={_WINDOW_S}'
        response.headers["RateLimit"] = f'"{_POLICY}";r={allowance.left};t={_WINDOW_S}'
