"""What only a paper market can do: list a pool, and a token, while it runs."""

from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.api.answers import POOL
from service.api.market import pool_json
from service.api.messages import json_response, load_body
from service.api.problems import ConflictError, InvalidError, ServiceUnavailableError
from service.api.requests import NEW_POOL
from service.venues.paper.listing import CannotListError, NewPool, PoolExistsError
from service.venues.paper.venue import PaperVenue
from service.venues.venue import VenueUnavailableError


@dataclass(frozen=True, slots=True)
class PaperRoutes:
    """What the routes about the paper market need."""

    venue: PaperVenue

    async def list_pool(self, request: web.Request) -> web.Response:
        """POST /api/paper/pools: a new pool, of a new token if you like; 201 when it can be traded."""
        wanted: NewPool = (await load_body(request, NEW_POOL))["pool"]
        try:
            pool = await self.venue.list_pool(wanted)
        except PoolExistsError as error:
            raise ConflictError(str(error)) from None
        except CannotListError as error:
            raise InvalidError(str(error)) from None
        except VenueUnavailableError as error:
            raise ServiceUnavailableError("The market did not answer; see whether it is listed.") from error
        return json_response(POOL.dump(pool_json(self.venue.view(pool))), HTTPStatus.CREATED)
