"""Builds the AsyncAPI document of the WebSockets from the route table and the OpenAPI document.

The parameters, the schemas and the security scheme are those of the OpenAPI document.
"""

import re
from collections.abc import Iterable
from typing import Any

import orjson
from apispec.ext.marshmallow import resolver

from service.api.access import STREAM_PROTOCOL, TICKET_PREFIX
from service.api.close_codes import close_code_table
from service.api.route import ApiRoute
from service.api.specs import SECURITY_SCHEME, documented_path, openapi_spec
from service.store.api_keys import TICKET_VALID_S

_Json = dict[str, Any]

_TICKET_SCHEME = "ticket"
_TICKET: _Json = {
    "type": "httpApiKey",
    "in": "header",
    "name": "Sec-WebSocket-Protocol",
    "description": f"For browsers: the subprotocols `{STREAM_PROTOCOL}` and `{TICKET_PREFIX}<ticket>`. "
    f"`POST /api/stream-tickets` creates a ticket; it opens one WebSocket within {TICKET_VALID_S} s.",
}

_DESCRIPTION = f"""\
Reports the execution of swap orders, and the market, over WebSocket: the service sends, and clients receive.
The OpenAPI document, at /openapi.json, describes all other routes.

The service sends a ping every 20 s, which WebSocket clients answer automatically. It closes with one of these
codes:

{close_code_table()}
"""

_SCHEMA_REFERENCE = re.compile(r'"#/components/schemas/(\w+)"')


def asyncapi_document(routes: tuple[ApiRoute, ...], root_path: str = "") -> bytes:
    """Return the AsyncAPI document of the WebSockets of a table of routes, in JSON.

    Args:
        routes: The table.
        root_path: The path under which a proxy serves the API, such as ``/engine``.
    """
    openapi = openapi_spec(routes, root_path)
    sockets = [route for route in routes if route.websocket]
    messages = list(dict.fromkeys(name for route in sockets for name in _messages(route)))
    return orjson.dumps(
        {
            "asyncapi": "3.0.0",
            "info": {
                **openapi["info"],
                "description": _DESCRIPTION,
            },
            "defaultContentType": "application/json",
            "servers": {"engine": _server(root_path)},
            "channels": {route.operation_id: _channel(route, openapi) for route in sockets},
            "operations": {route.operation_id: _operation(route) for route in sockets},
            "components": {
                "messages": {
                    name: {"name": name, "payload": {"$ref": f"#/components/schemas/{name}"}}
                    for name in messages
                },
                "schemas": _with_referenced(messages, openapi["components"]["schemas"]),
                "securitySchemes": {**openapi["components"]["securitySchemes"], _TICKET_SCHEME: _TICKET},
            },
        }
    )


def _messages(route: ApiRoute) -> list[str]:
    """Return the names of a WebSocket's messages, which are those of their schemas."""
    return [resolver(message) for message in route.messages]


def _server(root_path: str) -> _Json:
    server: _Json = {
        "host": "{host}",
        "protocol": "ws",
        "description": "The service; behind a proxy with TLS the protocol is wss.",
        "variables": {
            "host": {"default": "localhost:3000", "description": "Where clients reach it, with the port."}
        },
    }
    if root_path:
        server["pathname"] = root_path
    return server


def _channel(route: ApiRoute, openapi: _Json) -> _Json:
    path = documented_path(route)
    parameters: list[_Json] = openapi["paths"][path][route.method.lower()].get("parameters", [])
    channel: _Json = {
        "address": path,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages(route)},
        "parameters": {each["name"]: _path_parameter(each) for each in parameters if each["in"] == "path"},
        "bindings": {
            "ws": {
                "method": route.method,
                "query": _query(each for each in parameters if each["in"] == "query"),
                "bindingVersion": "0.1.0",
            }
        },
    }
    if route.description is not None:
        channel["description"] = route.description
    return channel


def _path_parameter(parameter: _Json) -> _Json:
    # AsyncAPI's parameters are strings without a schema, so the format is told in words.
    kind = parameter["schema"].get("format")
    return {} if kind is None else {"description": f"In the format {kind}."}


def _query(parameters: Iterable[_Json]) -> _Json:
    """Return the schema of a query, an object with a property for each parameter."""
    properties: _Json = {}
    required: list[str] = []
    for parameter in parameters:
        name = parameter["name"]
        properties[name] = dict(parameter["schema"])
        if "description" in parameter:
            properties[name]["description"] = parameter["description"]
        if parameter.get("required"):
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _operation(route: ApiRoute) -> _Json:
    channel = f"#/channels/{route.operation_id}"
    operation: _Json = {
        # An AsyncAPI document takes the view of the application that it describes.
        "action": "send",
        "channel": {"$ref": channel},
        "summary": route.summary,
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in _messages(route)],
    }
    if route.scope is not None:
        # Either of them is enough.
        operation["security"] = [
            {"$ref": f"#/components/securitySchemes/{scheme}"} for scheme in (SECURITY_SCHEME, _TICKET_SCHEME)
        ]
        operation["x-scope"] = route.scope
    return operation


def _with_referenced(names: Iterable[str], schemas: _Json) -> _Json:
    """Return the named schemas and those that they refer to, directly or not."""
    found: _Json = {}
    rest = list(names)
    while rest:
        name = rest.pop()
        if name not in found:
            found[name] = schemas[name]
            rest += _SCHEMA_REFERENCE.findall(orjson.dumps(schemas[name]).decode())
    return found
