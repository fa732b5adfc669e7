"""The rows of the route table about the market: quotes, tokens, pools."""

from service.api.market_messages import MarketUpdateSchema
from service.api.market_requests import (
    MarketStreamQuerySchema,
    PoolQuerySchema,
    QuoteQuerySchema,
)
from service.api.market_schemas import PoolListSchema, PoolSchema, QuoteSchema, TokenListSchema
from service.api.paper_requests import NewPoolSchema
from service.api.route import ApiLink, ApiResponse, ApiRoute, Idempotent
from service.domain.api_key import Scope

MARKET_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute(
        "GET",
        "/api/quotes",
        Scope.READ,
        lambda groups: groups.market.quote,
        "getQuote",
        "Quote an amount at current prices; reserves nothing",
        at_most=16,
        query=QuoteQuerySchema,
        responses=(ApiResponse(200, "The quote.", QuoteSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/tokens",
        Scope.READ,
        lambda groups: groups.market.tokens,
        "listTokens",
        "The tokens that can be traded",
        responses=(ApiResponse(200, "Every token.", TokenListSchema),),
    ),
    ApiRoute(
        "GET",
        "/api/pools",
        Scope.READ,
        lambda groups: groups.market.pools,
        "listPools",
        "The pools and their current state",
        at_most=1,
        query=PoolQuerySchema,
        responses=(ApiResponse(200, "Pools.", PoolListSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/market/ws",
        Scope.READ,
        lambda groups: groups.market_stream.stream,
        "streamMarket",
        "WebSocket: prices and best quotes of pairs as the market moves",
        description="Messages are MarketUpdate objects: first the state of all pairs, then of those that "
        "have changed. The next message is sent when the client has answered the ping that follows the one "
        "before, so that a slow client gets the newest state and skips others. A browser offers the "
        "subprotocols `order-engine.v1` and `ticket.<ticket>`. The AsyncAPI document lists all close codes.",
        allow_head=False,
        websocket=True,
        messages=(MarketUpdateSchema,),
        query=MarketStreamQuerySchema,
        responses=(ApiResponse(101, "Switching to WebSocket."),),
        problems=(426, 503),
    ),
    ApiRoute(
        "POST",
        "/api/paper/pools",
        Scope.ADMIN,
        lambda groups: groups.paper.list_pool if groups.paper else None,
        "listPool",
        "List a pool in the paper market, and a token if it is new",
        at_most=1,
        body=NewPoolSchema,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(
            ApiResponse(201, "The pool.", PoolSchema, links=(ApiLink("delistPool", "poolId", "id"),)),
        ),
        problems=(409, 503),
    ),
    ApiRoute(
        "DELETE",
        "/api/paper/pools/{pool_id}",
        Scope.ADMIN,
        lambda groups: groups.paper.delist_pool if groups.paper else None,
        "delistPool",
        "Delist a pool from the paper market",
        at_most=1,
        responses=(ApiResponse(204, "Delisted."),),
        problems=(404, 409, 503),
    ),
)
