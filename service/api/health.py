"""GET /health: the health check, for load balancers and people."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.api.messages import json_response
from service.domain.mode import TradingMode
from service.postgres.database import UnavailableError
from service.redis.link import RedisLink
from service.store.halt import TradingHalt


@dataclass(frozen=True, slots=True)
class HealthRoute:
    """The handler of the health route: checks the servers, and counts orders and unknown outcomes.

    ``halt`` is read to check PostgreSQL, and shown. ``write_error`` returns why PostgreSQL rejects writes.

    ``anonymous`` tells whether clients need no API key, because none was ever created; ``mode`` is whether
    orders trade real money.
    """

    halt: TradingHalt
    write_error: Callable[[], str | None]
    link: RedisLink
    executing: Callable[[], int]
    unknown_outcomes: Callable[[], int]
    anonymous: Callable[[], bool]
    mode: TradingMode

    async def health(self, _request: web.Request) -> web.Response:
        """Answer 200 while orders can be read, 503 while PostgreSQL is unavailable.

        ``degraded``: Redis is unavailable or unusable, and orders are accepted and executed without it; or
        PostgreSQL rejects writes, and orders wait.
        """
        halt = None
        try:
            halt = await self.halt.read()
            database = True
        except UnavailableError:
            database = False
        redis_error = await self.link.check()
        write_error = self.write_error() if database else None
        status = "unavailable" if not database else "degraded" if redis_error or write_error else "ok"
        body = {
            "status": status,
            "mode": self.mode,
            "database": "unavailable" if not database else "unwritable" if write_error else "ok",
            "databaseError": write_error,
            "redis": "unavailable" if redis_error else "ok",
            "redisError": redis_error,
            "executing": self.executing(),
            "unknownOutcomes": self.unknown_outcomes(),
            "anonymous": self.anonymous(),
            "halted": halt and {"reason": halt.reason, "haltedAt": halt.halted_at},
        }
        return json_response(body, HTTPStatus.OK if database else HTTPStatus.SERVICE_UNAVAILABLE)
