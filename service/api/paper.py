"""Routes of the paper market only: list and delist pools and tokens at run time."""

import re
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from service.api.market import pool_json
from service.api.market_schemas import POOL
from service.api.messages import FetchTokens, json_response, load_body
from service.api.paper_requests import NEW_POOL
from service.api.problems import ConflictError, InvalidError, NotFoundError, ServiceUnavailableError
from service.chains.paper.listing import (
    CannotListError,
    GenesisPoolError,
    NoRoomError,
    NoSuchPoolError,
    PoolExistsError,
)
from service.chains.paper.venue import PaperVenue
from service.chains.venue import VenueUnavailableError
from service.postgres.batch import QueueFullError

_POOL_ID = re.compile(r"[A-Za-z0-9:_-]{1,128}")


@dataclass(frozen=True, slots=True)
class PaperRoutes:
    """The handlers of the paper market's routes."""

    venue: PaperVenue
    fetch_tokens: FetchTokens

    async def list_pool(self, request: web.Request) -> web.Response:
        """POST /api/paper/pools: list a pool, possibly of a new token; 201 when it can be traded."""
        wanted = await load_body(request, NEW_POOL, self.fetch_tokens)
        try:
            pool = await self.venue.list_pool(wanted)
        except (PoolExistsError, NoRoomError) as error:
            raise ConflictError(str(error)) from None
        except CannotListError as error:
            raise InvalidError(str(error)) from None
        except QueueFullError:
            raise _too_many() from None
        except VenueUnavailableError as error:
            raise ServiceUnavailableError("The market did not answer; check if it is listed.") from error
        return json_response(POOL.dump(pool_json(self.venue.view(pool))), HTTPStatus.CREATED)

    async def delist_pool(self, request: web.Request) -> web.Response:
        """DELETE /api/paper/pools/{poolId}: delist a pool; 204 when it can no longer be traded."""
        pool_id = request.match_info["pool_id"]
        if not _POOL_ID.fullmatch(pool_id):
            raise NotFoundError("There is no such pool.")
        try:
            await self.venue.delist_pool(pool_id)
        except NoSuchPoolError as error:
            raise NotFoundError(str(error)) from None
        except GenesisPoolError as error:
            raise ConflictError(str(error)) from None
        except QueueFullError:
            raise _too_many() from None
        except VenueUnavailableError as error:
            raise ServiceUnavailableError("The market did not answer; check if it is delisted.") from error
        return web.Response(status=HTTPStatus.NO_CONTENT)


def _too_many() -> ServiceUnavailableError:
    return ServiceUnavailableError("Too many pools are waiting to be listed or delisted; try again.")
