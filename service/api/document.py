"""GET /openapi.json and GET /asyncapi.json: the documents of the routes."""

from collections.abc import Callable
from functools import cached_property

from aiohttp import web


class DocumentRoutes:
    """The handlers of the documents' routes. Each document is written once, at its first request.

    Args:
        write_openapi: Returns the OpenAPI document in JSON.
        write_asyncapi: Returns the AsyncAPI document in JSON.
    """

    def __init__(self, write_openapi: Callable[[], bytes], write_asyncapi: Callable[[], bytes]) -> None:
        self._write_openapi = write_openapi
        self._write_asyncapi = write_asyncapi

    @cached_property
    def _openapi(self) -> bytes:
        return self._write_openapi()

    @cached_property
    def _asyncapi(self) -> bytes:
        return self._write_asyncapi()

    async def openapi(self, _request: web.Request) -> web.Response:
        """GET /openapi.json: the OpenAPI document of all routes."""
        return web.Response(body=self._openapi, content_type="application/json")

    async def asyncapi(self, _request: web.Request) -> web.Response:
        """GET /asyncapi.json: the AsyncAPI document of the WebSockets."""
        return web.Response(body=self._asyncapi, content_type="application/json")
