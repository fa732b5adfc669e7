"""``Idempotency-Key``: a request that is sent again is not executed again; the first response is replayed.

A request that changed nothing (an error) is forgotten, and may be sent again under the same key.
"""

from http import HTTPStatus

from aiohttp import web

from service.api.access import CALLER
from service.api.problems import ConflictError, InvalidError, MalformedError
from service.api.queues import Handler
from service.domain.idempotency import IdempotencyKey, hash_request, parse_key
from service.store.idempotency import IdempotencyKeys, StoredKey

HEADER = "Idempotency-Key"
BEING_HANDLED = f"A request with this {HEADER} is being handled; send it again later."
_REPLAYED = "Idempotent-Replayed"


async def read_key(request: web.Request) -> IdempotencyKey | None:
    """Return a request's idempotency key, if it has one.

    Raises:
        MalformedError: The header is malformed.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return None
    key = parse_key(header)
    if key is None:
        raise MalformedError(f"{HEADER} must be 1 to 255 visible ASCII characters, without quotes inside.")
    try:
        body = await request.read()
    except (web.RequestPayloadError, ConnectionError) as error:
        raise MalformedError("The body could not be read.") from error
    return IdempotencyKey(key, hash_request(request.method, request.path, body))


def check_same_request(key: IdempotencyKey, stored: StoredKey) -> None:
    """Check that a key is used again for the same request.

    Raises:
        InvalidError: It was used for another one.
    """
    if stored.request_hash != key.request_hash:
        raise InvalidError(f"This {HEADER} was used for another request.")


def replayed(response: web.Response) -> web.Response:
    """Mark a response as one that was sent before."""
    response.headers[_REPLAYED] = "true"
    return response


class Idempotency:
    """Executes requests once, and replays their stored responses.

    Args:
        keys: The stored keys.
    """

    def __init__(self, keys: IdempotencyKeys) -> None:
        self._keys = keys

    def wrap(self, handler: Handler) -> Handler:
        """Return a handler that executes requests with the same key once."""

        async def answer(request: web.Request) -> web.StreamResponse:
            key = await read_key(request)
            if key is None:
                return await handler(request)
            account = request[CALLER].account
            reservation = await self._keys.reserve(account, key)
            if reservation is None:
                return await self._replay(account, key)
            return await self._execute(request, handler, key.key, reservation)

        return answer

    async def _execute(
        self, request: web.Request, handler: Handler, key: str, reservation: str
    ) -> web.StreamResponse:
        account = request[CALLER].account
        try:
            response = await handler(request)
        except BaseException:
            await self._keys.release(account, key, reservation)
            raise
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            raise TypeError(f"{request.path}: only a response with its whole body can be replayed")
        if response.status < HTTPStatus.BAD_REQUEST:
            await self._keys.store(account, key, reservation, response.status, response.body)
        else:
            await self._keys.release(account, key, reservation)
        return response

    async def _replay(self, account: str, key: IdempotencyKey) -> web.StreamResponse:
        stored = await self._keys.find(account, key.key)
        if stored is not None:
            check_same_request(key, stored)
            if stored.status is not None:
                response = web.Response(
                    status=stored.status, body=stored.response, content_type="application/json"
                )
                return replayed(response)
        raise ConflictError(BEING_HANDLED)
