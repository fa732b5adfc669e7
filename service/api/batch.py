"""POST /api/orders/batch: up to 100 orders in one request, each with its own response.

The orders are validated one after the other and then stored together, normally in one group of the journal
and with one commit, or two if the wallet must be read for some of them. One that is rejected does not affect
the others. With an ``Idempotency-Key`` each order has a key of its own, made from it, which is stored with
the order: however the first request ended, when it is sent again the orders that were stored are replayed,
and the others are tried again.
"""

import asyncio
from dataclasses import dataclass

import orjson
from aiohttp import web

from service.api.access import CALLER
from service.api.idempotency import check_same_request, read_key, replayed
from service.api.messages import json_list_response, load_query, read_body, validate
from service.api.placing import Placed, Placer
from service.api.problems import DATABASE_UNAVAILABLE, ProblemError, ServiceUnavailableError, problem_json
from service.api.requests import BATCH, NO_QUERY
from service.domain.api_key import Caller
from service.domain.idempotency import IdempotencyKey
from service.domain.order import NewOrder
from service.postgres.database import UnavailableError
from service.store.idempotency import IdempotencyKeys

MOST_MEMBERS = 4_000
"""The maximum number of members in the body: 100 sniper orders with all conditions have fewer."""

_TOGETHER = 10
"""Orders that are validated or encoded between two yields to the event loop."""

_Result = NewOrder | Placed | ProblemError


@dataclass(frozen=True, slots=True)
class BatchRoutes:
    """The handler of the route that places many orders."""

    placer: Placer
    keys: IdempotencyKeys

    async def execute(self, request: web.Request) -> web.Response:
        """POST /api/orders/batch: place orders; each result is what the order alone would be answered."""
        caller = request[CALLER]
        load_query(request, NO_QUERY)
        key = await read_key(request)
        bodies = validate(await read_body(request, MOST_MEMBERS), BATCH)["orders"]
        if key is not None:
            await self._reserve(caller.account, key)
        prepared: list[_Result] = []
        for number, body in enumerate(bodies):
            order_key = None if key is None else key.of_part(number)
            prepared.append(await self._prepare(caller, body, order_key, number))
            if number % _TOGETHER == _TOGETHER - 1:
                await asyncio.sleep(0)
        # The tasks begin in the same iteration of the event loop, and so the inserts are in the same group.
        # Orders that are compared with the wallet share one read of it before, and are in the next.
        results = await asyncio.gather(*(self._store(each, number) for number, each in enumerate(prepared)))
        texts = []
        for number, result in enumerate(results):
            texts.append(_encode(result))
            if number % _TOGETHER == _TOGETHER - 1:
                await asyncio.sleep(0)
        response = json_list_response("results", texts)
        any_replayed = any(isinstance(result, Placed) and result.replayed for result in results)
        return replayed(response) if any_replayed else response

    async def _reserve(self, account: str, key: IdempotencyKey) -> None:
        """Have the key stand for this batch.

        Raises:
            InvalidError: It was used for another request.
        """
        if await self.keys.reserve(account, key) is None:
            stored = await self.keys.find(account, key.key)
            if stored is not None:
                check_same_request(key, stored)

    async def _prepare(
        self, caller: Caller, body: object, key: IdempotencyKey | None, number: int
    ) -> _Result:
        try:
            return await self.placer.prepare(caller, body, key)
        except ProblemError as problem:
            return problem.within(("orders", number))

    async def _store(self, prepared: _Result, number: int) -> Placed | ProblemError:
        if not isinstance(prepared, NewOrder):
            return prepared
        try:
            return await self.placer.store(prepared)
        except ProblemError as problem:
            return problem.within(("orders", number))
        except UnavailableError:
            # The others' results are known: this one must not hide them.
            return ServiceUnavailableError(DATABASE_UNAVAILABLE)


def _encode(result: Placed | ProblemError) -> bytes:
    if isinstance(result, ProblemError):
        return orjson.dumps({"status": result.status, "order": None, "problem": problem_json(result)})
    return orjson.dumps({"status": result.status, "order": result.order, "problem": None})
