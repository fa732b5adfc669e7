"""GET /openapi.json: the OpenAPI document."""

from collections.abc import Callable
from functools import cached_property

from aiohttp import web


class DocumentRoute:
    """The handler of the document's route.

    Args:
        write: Returns the document in JSON; called once, at the first request.
    """

    def __init__(self, write: Callable[[], bytes]) -> None:
        self._write = write

    @cached_property
    def _document(self) -> bytes:
        return self._write()

    async def openapi(self, _request: web.Request) -> web.Response:
        """GET /openapi.json: the OpenAPI document of all routes."""
        return web.Response(body=self._document, content_type="application/json")
