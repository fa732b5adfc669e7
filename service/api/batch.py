"""POST /api/orders/batch: up to 100 orders in one request, each with its own response.

The orders are validated one after the other and then stored together, in one group of the journal, so that
they share a commit. One that is rejected does not affect the others.
"""

import asyncio
from dataclasses import dataclass

import orjson
from aiohttp import web

from service.api.access import CALLER
from service.api.messages import read_body, validate
from service.api.placing import Placed, Placer
from service.api.problems import ProblemError, problem_json
from service.api.requests import BATCH
from service.domain.order import NewOrder

MOST_MEMBERS = 4_000
"""The maximum number of members in the body: 100 sniper orders with all conditions have fewer."""

_TOGETHER = 10
"""Orders that are validated or encoded between two yields to the event loop."""

_Result = NewOrder | Placed | ProblemError


@dataclass(frozen=True, slots=True)
class BatchRoutes:
    """The handler of the route that places many orders."""

    placer: Placer

    async def execute(self, request: web.Request) -> web.Response:
        """POST /api/orders/batch: place orders; each result is what the order alone would be answered."""
        account = request[CALLER].account
        bodies = validate(await read_body(request, MOST_MEMBERS), BATCH)["orders"]
        prepared: list[_Result] = []
        for number, body in enumerate(bodies):
            prepared.append(await self._prepare(account, body, number))
            if number % _TOGETHER == _TOGETHER - 1:
                await asyncio.sleep(0)
        # The tasks begin in the same iteration of the event loop, and so the inserts are in the same group.
        results = await asyncio.gather(*(self._store(each, number) for number, each in enumerate(prepared)))
        texts = []
        for number, result in enumerate(results):
            texts.append(_encode(result))
            if number % _TOGETHER == _TOGETHER - 1:
                await asyncio.sleep(0)
        # In one piece, so that it can be replayed.
        body = b'{"results":[' + b",".join(texts) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _prepare(self, account: str, body: object, number: int) -> _Result:
        try:
            return await self.placer.prepare(account, body)
        except ProblemError as problem:
            return problem.within(("orders", number))

    async def _store(self, prepared: _Result, number: int) -> Placed | ProblemError:
        if not isinstance(prepared, NewOrder):
            return prepared
        try:
            return await self.placer.store(prepared)
        except ProblemError as problem:
            return problem.within(("orders", number))


def _encode(result: Placed | ProblemError) -> bytes:
    if isinstance(result, ProblemError):
        return orjson.dumps({"status": result.status, "order": None, "problem": problem_json(result)})
    return orjson.dumps({"status": result.status, "order": result.order, "problem": None})
