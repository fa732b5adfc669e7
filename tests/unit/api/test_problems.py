"""Problems: every error is problem+json that points at the error and reveals no internals."""

import asyncio
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from service.api.problems import (
    SECURITY_HEADERS,
    ConflictError,
    InvalidError,
    MalformedError,
    MediaTypeError,
    NotFoundError,
    ProblemError,
    ServiceUnavailableError,
    UpgradeError,
    middleware,
    respond,
)
from service.postgres.database import UnavailableError

MODEST = settings(max_examples=50, deadline=None)


def pointers(messages: Any) -> list[tuple[str, str]]:
    problem = InvalidError.of(ValidationError(messages))
    return [(error["pointer"], error["detail"]) for error in body_of(respond(problem))["errors"]]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ({"amountIn": ["No."]}, [("#/amountIn", "No.")]),
        ({"amountIn": ["No.", "Never."]}, [("#/amountIn", "No."), ("#/amountIn", "Never.")]),
        ({"a": ["No."], "b": ["No."]}, [("#/a", "No."), ("#/b", "No.")]),
        ({"_schema": ["Invalid input type."]}, [("#", "Invalid input type.")]),
        ({"orders": {0: {"id": ["No."]}}}, [("#/orders/0/id", "No.")]),
        ({"order": {"_schema": ["No."]}}, [("#/order", "No.")]),
        ({"a/b": ["No."]}, [("#/a~1b", "No.")]),
        ({"a~b": ["No."]}, [("#/a~0b", "No.")]),
        ({"~1/~0": ["No."]}, [("#/~01~1~00", "No.")]),
        ({"": ["No."]}, [("#/", "No.")]),
        ({"_schema": ["Unknown field."]}, [("#/_schema", "Unknown field.")]),
    ],
)
def test_a_pointer_points_to_the_field(messages: Any, expected: list[tuple[str, str]]) -> None:
    assert pointers(messages) == expected


def test_a_long_name_is_truncated_before_it_is_escaped() -> None:
    [(pointer, _)] = pointers({"~" * 5_000: ["Unknown field."]})
    assert pointer == "#/" + "~0" * 64


def test_many_long_errors_result_in_a_short_response() -> None:
    messages = {f"{number:04d}" + "\N{SNOWMAN}" * 5_000: ["x" * 5_000] for number in range(1_000)}
    response = respond(InvalidError.of(ValidationError(messages)))
    assert isinstance(response.body, bytes)
    assert len(response.body) < 32 * 1024
    assert len(body_of(response)["errors"]) == 20


@MODEST
@given(st.dictionaries(st.text(), st.lists(st.text(), min_size=1, max_size=5), max_size=4))
def test_a_pointer_is_short_and_printable_for_any_names(messages: dict[str, list[str]]) -> None:
    found = pointers(messages)
    assert len(found) == sum(map(len, messages.values()))
    for pointer, _ in found:
        assert pointer.startswith("#")
        assert pointer.isprintable()
        assert len(pointer) <= 2 + 12 * 64


@pytest.mark.parametrize(
    ("problem", "status", "title"),
    [
        (MalformedError, 400, "Bad Request"),
        (NotFoundError, 404, "Not Found"),
        (ConflictError, 409, "Conflict"),
        (MediaTypeError, 415, "Unsupported Media Type"),
        (InvalidError, 422, "Unprocessable Content"),
        (UpgradeError, 426, "Upgrade Required"),
        (ServiceUnavailableError, 503, "Service Unavailable"),
        (ProblemError, 500, "Internal Server Error"),
    ],
)
def test_a_problem_has_the_members_of_rfc_9457(problem: type[ProblemError], status: int, title: str) -> None:
    response = respond(problem("What happened."))
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert body_of(response) == {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": "What happened.",
    }
    assert ("Retry-After" in response.headers) == (status == 503)
    assert ("Upgrade" in response.headers) == (status == 426)


def test_an_invalid_request_lists_its_errors() -> None:
    response = respond(InvalidError.of(ValidationError({"amountIn": ["No."]})))
    assert response.status == 422
    assert body_of(response)["errors"] == [{"detail": "No.", "pointer": "#/amountIn"}]


def test_a_problem_may_have_more_members() -> None:
    assert body_of(respond(ServiceUnavailableError("Unknown.", orderId="1")))["orderId"] == "1"


def body_of(response: web.StreamResponse) -> dict[str, Any]:
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    body: dict[str, Any] = orjson.loads(response.body)
    return body


async def answer_to(error: Exception, *, closing: bool = False) -> web.StreamResponse:
    async def fail(_request: web.Request) -> web.StreamResponse:
        raise error

    transport = Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = closing
    return await middleware(make_mocked_request("GET", "/api/orders", transport=transport), fail)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConflictError("Another."), 409),
        (UnavailableError("host=10.0.0.7 refused", unknown=False), 503),
        (UnavailableError("host=10.0.0.7 refused", unknown=True), 503),
        (web.HTTPNotFound(), 404),
        (web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2), 413),
        (web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]), 405),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_every_error_becomes_a_problem(error: Exception, status: int) -> None:
    response = await answer_to(error)
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert body_of(response)["status"] == status
    assert "10.0.0.7" not in body_of(response)["detail"]


async def test_a_405_names_the_allowed_methods() -> None:
    response = await answer_to(web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]))
    assert response.headers["Allow"] == "GET,POST"


async def test_an_internal_error_is_logged_and_not_revealed(caplog: pytest.LogCaptureFixture) -> None:
    response = await answer_to(KeyError("the secret"))
    assert response.status == 500
    assert "secret" not in str(body_of(response))
    assert "the secret" in caplog.text


async def test_a_disconnected_client_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    await answer_to(ConnectionResetError("Cannot write to closing transport"), closing=True)
    assert caplog.text == ""


async def test_a_response_that_is_no_error_is_passed_on() -> None:
    with pytest.raises(web.HTTPSeeOther):
        await answer_to(web.HTTPSeeOther("/elsewhere"))


@pytest.mark.parametrize(
    ("name", "pointer"), [("a b", "#/a%20b"), ("50%", "#/50%25"), ("é", "#/%C3%A9"), ('"', "#/%22")]
)
def test_a_pointer_is_a_uri_fragment(name: str, pointer: str) -> None:
    assert pointers({name: ["No."]}) == [(pointer, "No.")]


def test_every_problem_has_the_security_headers() -> None:
    # Also those that are sent before the application sees the request.
    problem = NotFoundError("There is no such order.")
    problem.headers["RateLimit"] = "x"
    headers = respond(problem).headers
    assert dict(headers).items() >= {**SECURITY_HEADERS, "RateLimit": "x"}.items()
