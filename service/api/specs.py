"""Builds the OpenAPI document from the route table and the schemas."""

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin, resolver

from service.api.error_responses import (
    HEADERS,
    OF_ANY_LIMIT,
    SHARED,
    component_name,
    header_references,
    own_problems,
    problem_response,
    problem_statuses,
)
from service.api.examples import add_example, read_example, shared_problems
from service.api.fields import camel_case
from service.api.route import ApiResponse, ApiRoute, Idempotent
from service.api.webhook_schemas import WebhookMessageSchema

_PARAMETER = re.compile(r"\{(\w+)\}")
_FORMATS = {"order_id": {"format": "uuid"}}
"""Formats of path parameters; all of them are strings."""

SECURITY_SCHEME = "apiKey"
"""The name of the security scheme of all routes that need a key."""

_IDEMPOTENCY_KEY: dict[str, object] = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "Sent again with the same key within a day, the request is not executed again: the first"
    " response is replayed, with Idempotent-Replayed: true.",
    "schema": {"type": "string", "pattern": '^("[!#-~]{1,255}"|[!#-~]{1,255})$'},
}


def openapi_document(routes: tuple[ApiRoute, ...], root_path: str = "") -> bytes:
    """Return the OpenAPI document of a table of routes, in JSON.

    Args:
        routes: The table.
        root_path: The path under which a proxy serves the API, such as ``/engine``.
    """
    return orjson.dumps(openapi_spec(routes, root_path))


def openapi_spec(routes: tuple[ApiRoute, ...], root_path: str = "") -> dict[str, Any]:
    """Return the same document as an object, for the document that is made from it.

    Args:
        routes: The table.
        root_path: The path under which a proxy serves the API, such as ``/engine``.
    """
    spec = APISpec(
        title="Order execution engine",
        version=_version(),
        openapi_version="3.1.0",
        info={
            "description": "Places swap orders, and reports their execution.",
            "license": {"name": "MIT"},
        },
        servers=[{"url": root_path or "/"}],
        plugins=[MarshmallowPlugin()],
    )
    spec.components.security_scheme(
        SECURITY_SCHEME,
        {"type": "http", "scheme": "bearer", "description": "An API key's token: `oek_<id>_<secret>`."},
    )
    # The document has no messages; their schemas stand beside those of the requests and responses.
    for message in dict.fromkeys(message for route in routes for message in route.messages):
        spec.components.schema(resolver(message), schema=message)
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for status in SHARED:
        spec.components.response(component_name(status), problem_response(status))
    for route in routes:
        spec.path(documented_path(route), operations={route.method.lower(): _operation(route)})
    spec.components.schema(resolver(WebhookMessageSchema), schema=WebhookMessageSchema)
    whole = spec.to_dict() | {"webhooks": {"orderChanged": {"post": _webhook()}}}
    _add_examples(whole, routes)
    _drop_null_defaults(whole)
    # A marshmallow schema can express neither that some member is required, nor exactly one of two.
    whole["components"]["schemas"]["Amendment"]["minProperties"] = 1
    whole["components"]["schemas"]["NewOrder"]["oneOf"] = [
        {
            "required": [fixed],
            "properties": {fixed: {"type": "string"}, other: {"type": "null"}},
        }
        for fixed, other in (("amountIn", "amountOut"), ("amountOut", "amountIn"))
    ]
    return whole


def documented_path(route: ApiRoute) -> str:
    """Return a route's path with its parameters in camelCase."""
    return _PARAMETER.sub(lambda found: f"{{{camel_case(found[1])}}}", route.path)


def _operation(route: ApiRoute) -> dict[str, object]:
    operation: dict[str, object] = {"operationId": route.operation_id, "summary": route.summary}
    if route.description is not None:
        operation["description"] = route.description
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        content = _content("application/json", route.body)
        operation["requestBody"] = {"required": not route.optional_body, "content": content}
    operation["responses"] = _responses(route)
    operation["security"] = [] if route.scope is None else [{SECURITY_SCHEME: []}]
    if route.scope is not None:
        operation["x-scope"] = route.scope
    return operation


def _webhook() -> dict[str, object]:
    """Return the operation that receivers of webhooks implement."""
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    message = {"$ref": f"#/components/schemas/{resolver(WebhookMessageSchema)}"}
    return {
        "operationId": "orderChanged",
        "summary": "Sent to the account's webhook endpoints for each entry of an order's history",
        "description": "By the Standard Webhooks convention (standardwebhooks.com). At least once, and in"
        " order for each order.",
        "security": [],
        "parameters": [
            {"in": "header", "name": name, "required": True, "schema": {"type": "string"}} for name in headers
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": message}}},
        "responses": {
            "2XX": {"description": "Received."},
            "410": {"description": "Nothing more is wanted: the endpoint is disabled."},
            "default": {"description": "Not received: it is sent again."},
        },
    }


def _parameters(route: ApiRoute) -> list[dict[str, object]]:
    parameters: list[dict[str, object]] = [
        {
            "in": "path",
            "name": camel_case(name),
            "required": True,
            "schema": {"type": "string", **_FORMATS.get(name, {})},
        }
        for name in _PARAMETER.findall(route.path)
    ]
    if route.idempotency is not Idempotent.NO:
        parameters.append(_IDEMPOTENCY_KEY)
    if route.query is not None:
        parameters.append({"in": "query", "schema": route.query})
    return parameters


def _responses(route: ApiRoute) -> dict[str, object]:
    responses: dict[str, Any] = {}
    for status in dict.fromkeys(response.status for response in route.responses):
        same = [response for response in route.responses if response.status == status]
        responses[str(status)] = _response(route, same)
    for status in problem_statuses(route):
        described = problem_response(status)
        if (also := responses.get(str(status))) is not None:
            also["content"] |= described["content"]
        elif status in own_problems(route):
            responses[str(status)] = described
        else:
            responses[str(status)] = component_name(status)
    return responses


def _response(route: ApiRoute, same: list[ApiResponse]) -> dict[str, Any]:
    """Describe the responses that have the same status."""
    described: dict[str, Any] = {"description": " ".join(each.description for each in same)}
    schemas = [each.schema for each in same if each.schema is not None]
    if schemas:
        schema = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
        described["content"] = _content("application/json", schema)
    elif same[0].content_type is not None:
        described["content"] = {same[0].content_type: {}}
    headers = OF_ANY_LIMIT if route.scope is not None and not route.websocket else ()
    if route.idempotency is not Idempotent.NO:
        headers = ("Idempotent-Replayed", *headers)
    if headers:
        described["headers"] = header_references(headers)
    if links := [link for each in same for link in each.links]:
        described["links"] = {
            link.operation_id: {
                "operationId": link.operation_id,
                "parameters": {link.parameter: f"$response.body#/{link.member}"},
            }
            for link in links
        }
    return described


def _add_examples(whole: dict[str, Any], routes: tuple[ApiRoute, ...]) -> None:
    for route in routes:
        operation = whole["paths"][documented_path(route)][route.method.lower()]
        add_example(operation, read_example(route.operation_id))
    for status, problem in shared_problems().items():
        [content] = whole["components"]["responses"][component_name(status)]["content"].values()
        content["example"] = problem


def _content(content_type: str, schema: object) -> dict[str, object]:
    return {content_type: {"schema": schema}}


def _drop_null_defaults(node: object) -> None:
    """Remove null defaults: they only mean that a member is optional, and null is not a valid value."""
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
        return "0"  # run from a checkout without installation
