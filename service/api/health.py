"""GET /health: whether the service can do its work, for load balancers and people."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.api.messages import json_response
from service.postgres.database import UnavailableError
from service.redis.link import RedisLink
from service.store.orders import Orders


@dataclass(frozen=True, slots=True)
class HealthRoute:
    """What the health route needs: the servers, and counts of what is going on."""

    orders: Orders
    link: RedisLink
    executing: Callable[[], int]
    unknown_outcomes: Callable[[], int]

    async def health(self, _request: web.Request) -> web.Response:
        """Answer 200 while orders are accepted and read, 503 while PostgreSQL is away.

        ``degraded`` is Redis away, or of no use: orders are accepted and executed without it.
        """
        try:
            await self.orders.versions([])
            database = True
        except UnavailableError:
            database = False
        trouble = await self.link.check()
        status = "unavailable" if not database else "degraded" if trouble else "ok"
        body = {
            "status": status,
            "database": "ok" if database else "unavailable",
            "redis": "unavailable" if trouble else "ok",
            "redisError": trouble,
            "executing": self.executing(),
            "unknownOutcomes": self.unknown_outcomes(),
        }
        return json_response(body, HTTPStatus.OK if database else HTTPStatus.SERVICE_UNAVAILABLE)
