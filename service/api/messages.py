"""Loads requests by their schemas, and writes JSON responses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TypeVar

import orjson
from aiohttp import web
from marshmallow import ValidationError

from service.api.fields import Request
from service.api.problems import InvalidError, MalformedError, MediaTypeError
from service.api.strict_json import MOST_MEMBERS, NotJsonError, read_json

T = TypeVar("T")
FetchTokens = Callable[[object], Awaitable[None]]
"""Fetches the unknown tokens that a parsed body or query names."""

_CHUNK_BYTES = 128 * 1024


def load_query(request: web.Request, schema: Request[T]) -> T:
    """Load a query string by its schema.

    Raises:
        InvalidError: A value or a name does not match the schema.
    """
    seen = set()
    for pair in request.query.items():
        if pair[0] in seen:
            raise InvalidError.at((pair[0],), "Given more than once.")
        seen.add(pair[0])
    try:
        return schema.read(dict(request.query))
    except ValidationError as error:
        raise InvalidError.of(error) from None


async def load_body(request: web.Request, schema: Request[T], fetch_tokens: FetchTokens | None = None) -> T:
    """Load a JSON body by its schema.

    Args:
        request: The request.
        schema: The schema of its body.
        fetch_tokens: Awaited with the parsed body before validation, to fetch unknown tokens that it names.

    Raises:
        MediaTypeError: The content type is not JSON.
        MalformedError: The body is not JSON, or has a duplicate member.
        InvalidError: A value or a name does not match the schema.
    """
    body = await read_body(request)
    if fetch_tokens is not None:
        await fetch_tokens(body)
    return validate(body, schema)


async def load_optional_body(request: web.Request, schema: Request[T]) -> T:
    """Load a JSON body as ``load_body`` does; no body counts as an empty object."""
    return await load_body(request, schema) if request.body_exists else validate({}, schema)


async def read_body(request: web.Request, most_members: int = MOST_MEMBERS) -> object:
    """Read and parse a JSON body.

    Raises:
        MediaTypeError: The content type is not JSON.
        MalformedError: The body is not JSON, has a duplicate member, or exceeds a limit.
    """
    if request.content_type != "application/json":
        raise MediaTypeError("The body must be JSON, with Content-Type: application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() not in {"identity", "gzip", "deflate"}:
        raise MediaTypeError("The body's Content-Encoding must be gzip or deflate, if any.")
    try:
        return read_json(await request.read(), most_members)
    except (web.RequestPayloadError, ConnectionError) as error:
        raise MalformedError("The body could not be read.") from error
    except NotJsonError as error:
        raise MalformedError(str(error)) from None


def validate(body: object, schema: Request[T]) -> T:
    """Load a parsed body by its schema.

    Raises:
        InvalidError: A value or a name does not match the schema.
    """
    try:
        return schema.read(body)
    except ValidationError as error:
        raise InvalidError.of(error) from None


def json_list_response(name: str, texts: Sequence[bytes], **members: object) -> web.Response:
    """Return a response with an object that has a possibly long list; it is sent in chunks.

    Args:
        name: The list's name.
        texts: Its elements, in JSON.
        members: The object's other members.
    """
    rest = orjson.dumps(members)[1:]
    tail = b"]," + rest if members else b"]}"
    return web.Response(
        body=_chunks(b'{"%b":[' % name.encode(), texts, tail), content_type="application/json"
    )


async def _chunks(head: bytes, texts: Sequence[bytes], tail: bytes) -> AsyncIterator[bytes]:
    chunk = bytearray(head)
    for number, text in enumerate(texts):
        if number:
            chunk += b","
        chunk += text
        if len(chunk) > _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
            # Writing does not yield to the event loop while the client reads fast enough.
            await asyncio.sleep(0)
    yield bytes(chunk) + tail


def json_response(body: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=orjson.dumps(body), status=status.value, content_type="application/json")
