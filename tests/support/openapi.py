"""The OpenAPI document, as it is served."""

import functools
from typing import Any

import orjson

from service.api.routes import ROUTES
from service.api.specs import openapi_document


@functools.cache
def document() -> dict[str, Any]:
    """Return what a client reads from ``GET /openapi.json``."""
    read: dict[str, Any] = orjson.loads(openapi_document(ROUTES))
    return read
