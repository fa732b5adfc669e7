"""While the service stops: nothing new is begun, and connections end with their next response.

Clients keep connections open, so requests still arrive while the orders in execution are finished. An order
that was accepted then would wait for the next start.
"""

from aiohttp import web

from service.api.problems import ServiceUnavailableError
from service.api.queues import Handler

_STOPPING = "The service is stopping, and nothing was changed; send the request again, over a new connection."


class Stopping:
    """Refuses what would begin something, once the service has begun to stop."""

    def __init__(self) -> None:
        self._begun = False

    def begin(self) -> None:
        """Begin to stop."""
        self._begun = True

    def guard(self, handler: Handler) -> Handler:
        """Return a handler that is not reached while the service stops."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if self._begun:
                raise ServiceUnavailableError(_STOPPING)
            return await handler(request)

        return answer

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """End the connection with the response, so that the client's next request goes elsewhere."""
        response = await handler(request)
        if self._begun and not response.prepared:
            response.force_close()
        return response
