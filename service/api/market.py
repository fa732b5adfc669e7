"""The market over REST: quotes, tokens and pools."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import orjson
from aiohttp import web
from marshmallow import Schema

from service.api.market_requests import POOL_QUERY, QUOTE_QUERY
from service.api.market_schemas import POOL, QUOTE, TOKEN
from service.api.messages import FetchTokens, json_list_response, json_response, load_query
from service.api.quotes import problem_of, quote_json
from service.chains.venue import MarketData, PoolView, VenueUnavailableError
from service.clock import Clock
from service.domain.amounts import format_amount, format_price
from service.domain.quote import Choice
from service.domain.tokens import TOKENS
from service.routing import NoRouteError
from service.routing.quoting import Quoter
from service.turns import Steps, Turns

log = logging.getLogger(__name__)


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
            raise problem_of(end.failure) from None
        now = self.clock.database_time()
        return json_response(QUOTE.dump(quote_json(choice, now, query["slippage_bps"])))

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
