"""The market over REST: quotes, tokens and pools."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import orjson
from aiohttp import web
from marshmallow import Schema

from service.api.market_requests import POOL_QUERY, QUOTE_QUERY
from service.api.messages import FetchTokens, json_list_response, json_response, load_query
from service.api.problems import InvalidError, ServiceUnavailableError
from service.api.responses import POOL, QUOTE, TOKEN
from service.chains.venue import MarketData, PoolView, VenueUnavailableError
from service.clock import Clock
from service.domain.amounts import format_amount, format_price
from service.domain.failures import FailureCode
from service.domain.quote import Choice
from service.domain.routing_record import record_choice
from service.domain.timestamps import format_timestamp
from service.domain.tokens import TOKENS
from service.routing import NoRouteError
from service.routing.quoting import Quoter
from service.turns import Steps, Turns

log = logging.getLogger(__name__)

# How long a quote is shown as valid: the paper market's prices move every two seconds, a chain's every slot.
_LIFETIME = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class MarketRoutes:
    """The handlers of the market's routes."""

    quoter: Quoter
    venue: MarketData
    clock: Clock
    fetch_tokens: FetchTokens
    turns: Turns

    async def quote(self, request: web.Request) -> web.Response:
        """GET /api/quotes?tokenIn=&tokenOut=&amountIn= (or amountOut=). Reserves nothing."""
        await self.fetch_tokens(request.query)
        query = load_query(request, QUOTE_QUERY)
        try:
            choice = await self.quoter.best_of_latest(
                query["swap_mode"], query["token_in"], query["token_out"], query["amount"], accept=_accept_any
            )
        except NoRouteError as end:
            raise _no_quote(end) from None
        route = choice.route
        decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
        maximum_in, minimum_out = route.limits(query["slippage_bps"])
        now = datetime.fromtimestamp(self.clock.database_time(), UTC)
        record = record_choice(choice)
        return json_response(
            QUOTE.dump(
                {
                    **query,
                    "amount_in": format_amount(route.amount_in, decimals_in),
                    "amount_out": format_amount(route.amount_out, decimals_out),
                    "maximum_in": format_amount(maximum_in, decimals_in),
                    "minimum_out": format_amount(minimum_out, decimals_out),
                    "price": format_price(route.amount_out, decimals_out, route.amount_in, decimals_in),
                    "price_impact": format_amount(route.price_impact_ppm, 6),
                    "venue": route.dex,
                    "route": record.route,
                    "quotes": record.quotes,
                    "quoted_at": format_timestamp(now),
                    "expires_at": format_timestamp(now + _LIFETIME),
                }
            )
        )

    async def tokens(self, _request: web.Request) -> web.Response:
        """GET /api/tokens."""
        await self._catch_up()
        tokens = (asdict(token) for token in list(self.venue.tokens()))
        return json_list_response("tokens", await self.turns.run(_written(TOKEN, tokens)))

    async def pools(self, request: web.Request) -> web.Response:
        """GET /api/pools?venue=&token=."""
        await self.fetch_tokens(request.query)
        query = load_query(request, POOL_QUERY)
        await self._catch_up()
        slot, views = self.venue.all_views()
        shown = (
            pool_json(view)
            for view in views
            if query["venue"] in {None, view.pool.dex}
            and query["token"] in {None, view.pool.token_a, view.pool.token_b}
        )
        return json_list_response("pools", await self.turns.run(_written(POOL, shown)), slot=slot)

    async def _catch_up(self) -> None:
        """Fetch changes that have not arrived here; if that fails, local state is shown."""
        try:
            await self.venue.refresh()
        except VenueUnavailableError as error:
            log.debug("showing the market from local state (%s)", error)


def _accept_any(_choice: Choice) -> bool:
    return True


def _written(schema: Schema, objects: Iterable[dict[str, object]]) -> Steps[list[bytes]]:
    """Encode a possibly long list, one element per step."""
    written = []
    for each in objects:
        written.append(orjson.dumps(schema.dump(each)))
        yield
    return written


def _no_quote(end: NoRouteError) -> InvalidError | ServiceUnavailableError:
    code = end.failure.code
    kind = ServiceUnavailableError if code is FailureCode.QUOTES_UNAVAILABLE else InvalidError
    return kind(end.failure.detail, reason=code)


def pool_json(view: PoolView) -> dict[str, object]:
    """Return a pool in the form that its schema dumps."""
    pool = view.pool
    decimals_a, decimals_b = TOKENS[pool.token_a].decimals, TOKENS[pool.token_b].decimals
    return {
        "id": pool.id,
        "venue": pool.dex,
        "program": view.program,
        "token_a": pool.token_a,
        "token_b": pool.token_b,
        "amount_a": format_amount(view.amount_a, decimals_a),
        "amount_b": format_amount(view.amount_b, decimals_b),
        "price": view.price and format_price(view.price.out, decimals_b, view.price.per, decimals_a),
    }
