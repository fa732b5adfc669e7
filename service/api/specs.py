"""GET /openapi.json: the contract as an OpenAPI document, made from the schemas."""

import functools
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
from aiohttp import web
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from service.api.problems import CONTENT_TYPE
from service.api.requests import (
    AmendmentSchema,
    CancelSchema,
    ListQuerySchema,
    NewOrderSchema,
    NewPoolSchema,
    PoolQuerySchema,
    QuoteQuerySchema,
    StreamQuerySchema,
)
from service.api.responses import (
    CancelledOrderSchema,
    CancelledSchema,
    OrderListSchema,
    OrderSchema,
    PoolListSchema,
    PoolSchema,
    ProblemSchema,
    QuoteSchema,
    StatusUpdateSchema,
    TokenListSchema,
)

_ORDER_ID = {
    "in": "path",
    "name": "orderId",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}


async def openapi(_request: web.Request) -> web.Response:
    """GET /openapi.json."""
    return web.Response(body=_body(), content_type="application/json")


@functools.cache
def _body() -> bytes:
    return orjson.dumps(document())


@functools.cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    spec = APISpec(
        title="Order execution engine",
        version=_version(),
        openapi_version="3.1.0",
        info={
            "description": "Places swap orders, and tells what became of them.",
            "license": {"name": "MIT"},
        },
        plugins=[MarshmallowPlugin()],
    )
    spec.components.schema("StatusUpdate", schema=StatusUpdateSchema)
    spec.path(
        "/api/orders/execute",
        operations={
            "post": {
                "operationId": "executeOrder",
                "summary": "Place an order; it is durable when this answers 201",
                "requestBody": {"required": True, "content": _json(NewOrderSchema)},
                "responses": {
                    "201": _answer("Accepted.", OrderSchema),
                    "200": _answer("The clientOrderId names this order, which is the same one.", OrderSchema),
                    **_problems("400", "409", "413", "415", "422", "503"),
                },
            }
        },
    )
    spec.path(
        "/api/orders",
        operations={
            "get": {
                "operationId": "listOrders",
                "summary": "List orders, newest first",
                "parameters": [{"in": "query", "schema": ListQuerySchema}],
                "responses": {"200": _answer("A page.", OrderListSchema), **_problems("422", "503")},
            }
        },
    )
    spec.path(
        "/api/orders/{orderId}",
        operations={
            "get": {
                "operationId": "getOrder",
                "summary": "Read an order",
                "parameters": [_ORDER_ID],
                "responses": {"200": _answer("The order.", OrderSchema), **_problems("404", "503")},
            },
            "patch": {
                "operationId": "amendOrder",
                "summary": "Give an open order other terms",
                "parameters": [_ORDER_ID],
                "requestBody": {"required": True, "content": _json(AmendmentSchema)},
                "responses": {
                    "200": _answer("The order as it is now.", OrderSchema),
                    **_problems("400", "404", "409", "413", "415", "422", "503"),
                },
            },
            "delete": {
                "operationId": "cancelOrder",
                "summary": "Cancel an order",
                "parameters": [_ORDER_ID],
                "responses": {
                    "200": _answer("It is cancelled.", CancelledOrderSchema),
                    "202": _answer(
                        "It has been submitted: it is cancelled unless it lands.", CancelledOrderSchema
                    ),
                    **_problems("404", "409", "503"),
                },
            },
        },
    )
    spec.path(
        "/api/orders/cancel",
        operations={
            "post": {
                "operationId": "cancelOrders",
                "summary": "Cancel all open orders, or those of a pair or a type",
                "requestBody": {"required": True, "content": _json(CancelSchema)},
                "responses": {
                    "200": _answer("How many.", CancelledSchema),
                    **_problems("400", "413", "415", "422", "503"),
                },
            }
        },
    )
    spec.path(
        "/api/orders/by-client-id/{clientOrderId}",
        operations={
            "get": {
                "operationId": "getOrderByClientId",
                "summary": "Read an order by the client's own id",
                "parameters": [
                    {"in": "path", "name": "clientOrderId", "required": True, "schema": {"type": "string"}}
                ],
                "responses": {"200": _answer("The order.", OrderSchema), **_problems("404", "503")},
            }
        },
    )
    spec.path(
        "/api/orders/{orderId}/ws",
        operations={
            "get": {
                "operationId": "streamOrder",
                "summary": "WebSocket: every entry of the history once, in order, replayed and live",
                "description": "Messages are StatusUpdate objects. The socket closes with 1000 after the "
                "terminal one, with 1012 when the service restarts (connect again with `from`), and with "
                "4008 when the client does not take its messages.",
                "parameters": [_ORDER_ID, {"in": "query", "schema": StreamQuerySchema}],
                "responses": {
                    "101": {"description": "Switching to WebSocket."},
                    **_problems("404", "422", "426", "503"),
                },
            }
        },
    )
    spec.path(
        "/api/quotes",
        operations={
            "get": {
                "operationId": "getQuote",
                "summary": "What the router sees now for an amount; reserves nothing",
                "parameters": [{"in": "query", "schema": QuoteQuerySchema}],
                "responses": {"200": _answer("The quote.", QuoteSchema), **_problems("422", "503")},
            }
        },
    )
    spec.path(
        "/api/tokens",
        operations={
            "get": {
                "operationId": "listTokens",
                "summary": "The tokens that can be traded",
                "responses": {"200": _answer("Every token.", TokenListSchema)},
            }
        },
    )
    spec.path(
        "/api/pools",
        operations={
            "get": {
                "operationId": "listPools",
                "summary": "The pools as they are now",
                "parameters": [{"in": "query", "schema": PoolQuerySchema}],
                "responses": {"200": _answer("Pools.", PoolListSchema), **_problems("422", "503")},
            }
        },
    )
    spec.path(
        "/api/paper/pools",
        operations={
            "post": {
                "operationId": "listPool",
                "summary": "List a pool in the paper market, and a token if it is new",
                "requestBody": {"required": True, "content": _json(NewPoolSchema)},
                "responses": {
                    "201": _answer("The pool.", PoolSchema),
                    **_problems("400", "409", "413", "415", "422", "503"),
                },
            }
        },
    )
    spec.path(
        "/api/paper/pools/{poolId}",
        operations={
            "delete": {
                "operationId": "delistPool",
                "summary": "Take a listed pool off the paper market",
                "parameters": [
                    {"in": "path", "name": "poolId", "required": True, "schema": {"type": "string"}}
                ],
                "responses": {
                    "204": {"description": "It can be traded no more."},
                    **_problems("404", "409", "503"),
                },
            }
        },
    )
    spec.path(
        "/health",
        operations={
            "get": {
                "operationId": "health",
                "summary": "Whether the service can do its work",
                "responses": {
                    "200": {"description": "ok, or degraded: no Redis that can be used, see redisError."},
                    "503": {"description": "unavailable: PostgreSQL is away."},
                },
            }
        },
    )
    spec.path(
        "/openapi.json",
        operations={
            "get": {
                "operationId": "openapi",
                "summary": "This document",
                "responses": {"200": {"description": "An OpenAPI 3.1 document."}},
            }
        },
    )
    whole = spec.to_dict()
    _drop_null_defaults(whole)
    # What no schema can say of two members.
    whole["components"]["schemas"]["NewOrder"]["oneOf"] = [
        {
            "required": [fixed],
            "properties": {fixed: {"type": "string"}, other: {"type": "null"}},
        }
        for fixed, other in (("amountIn", "amountOut"), ("amountOut", "amountIn"))
    ]
    return whole


def _drop_null_defaults(node: Any) -> None:
    """Take out defaults that only say that a member may be left out: null is not one of its values."""
    if isinstance(node, dict):
        if "default" in node and node["default"] is None:
            del node["default"]
        for child in node.values():
            _drop_null_defaults(child)
    elif isinstance(node, list):
        for child in node:
            _drop_null_defaults(child)


def _version() -> str:
    try:
        return version("order-execution-engine")
    except PackageNotFoundError:
        return "0"  # run from a checkout, not installed


def _json(schema: type) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _answer(description: str, schema: type) -> dict[str, Any]:
    return {"description": description, "content": _json(schema)}


def _problems(*statuses: str) -> dict[str, Any]:
    return {
        status: {"description": "A problem.", "content": {CONTENT_TYPE: {"schema": ProblemSchema}}}
        for status in statuses
    }
