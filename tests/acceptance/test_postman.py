"""Every request of the Postman collection, sent to the running service, passes its tests.

The tests of a request are JavaScript for Postman; here they are parsed, not run. They have four forms,
and any other form fails, so that every test is checked:

- ``pm.test("...", () => pm.response.to.have.status(201));``, once and first;
- ``pm.test("...", () => pm.response.to.have.header("Content-Type", "..."));``, second and last, if the
  response is not JSON;
- ``pm.test("...", () => pm.expect(pm.response.json().<path>).to.eql(<JSON or a variable>));``;
- ``pm.collectionVariables.set("<variable>", pm.response.json().<path>);``.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from aiohttp import ClientSession
from yarl import URL

from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess

_COLLECTION = PROJECT / "postman" / "order-execution-engine.postman_collection.json"

_PATH = r"pm\.response\.json\(\)\.([A-Za-z]+(?:\.[A-Za-z]+|\[[0-9]+\])*)"
_STATUS = re.compile(r'pm\.test\("[^"]+", \(\) => pm\.response\.to\.have\.status\(([0-9]{3})\)\);')
_EQUAL = re.compile(rf'pm\.test\("[^"]+", \(\) => pm\.expect\({_PATH}\)\.to\.eql\((.+)\)\);')
_TYPE = re.compile(
    r'pm\.test\("[^"]+", \(\) => pm\.response\.to\.have\.header\("Content-Type", "([^"]+)"\)\);'
)
_KEEP = re.compile(rf'pm\.collectionVariables\.set\("([A-Za-z]+)", {_PATH}\);')
_VARIABLE = re.compile(r'pm\.collectionVariables\.get\("([A-Za-z]+)"\)')

Json = dict[str, Any]


def _requests(items: list[Json]) -> Iterator[Json]:
    for item in items:
        if "item" in item:
            yield from _requests(item["item"])
        else:
            yield item


def _at(body: Any, path: str) -> Any:
    """Return the value at a path in JavaScript's notation."""
    for step in re.findall(r"[A-Za-z]+|[0-9]+", path):
        body = body[int(step)] if step.isdigit() else len(body) if step == "length" else body[step]
    return body


class _Runner:
    """Sends requests as Postman does, with variables that the responses set."""

    def __init__(self, base_url: str, variables: list[Json]) -> None:
        self._variables = {variable["key"]: variable["value"] for variable in variables} | {
            "baseUrl": base_url
        }
        self.seen: set[tuple[str, str]] = set()
        self.statuses: set[int] = set()

    def fill(self, text: str) -> str:
        """Replace variables by their values; a variable without a value is an error in the collection."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            found: str = str(uuid4()) if name == "$guid" else self._variables[name]
            assert found, f"{name} has not been set by an earlier request"
            return found

        return re.sub(r"\{\{([^}]+)\}\}", value, text)

    async def send(self, client: ClientSession, item: Json) -> None:
        """Send a request and check the response with the request's tests."""
        request = item["request"]
        url = URL(self.fill(request["url"]), encoded=True)
        body = request.get("body")
        assert body is None or body["mode"] == "raw"
        async with client.request(
            request["method"],
            url,
            headers={header["key"]: header["value"] for header in request["header"]},
            data=None if body is None else self.fill(body["raw"]),
        ) as answer:
            self.seen.add((request["method"], url.path))
            text = await answer.text()
            content_type = answer.headers.get("Content-Type", "")
            self.check(item["event"], answer.status, content_type, text)

    def check(self, events: list[Json], status: int, content_type: str, text: str) -> None:
        """Check a response with a request's tests, and store the variables that they set."""
        [event] = events
        assert event["listen"] == "test"
        first, *others = event["script"]["exec"]
        expected = _STATUS.fullmatch(first)
        assert expected, f"the first test is not one of the status: {first}"
        assert status == int(expected[1]), text
        self.statuses.add(status)
        if status == 204:
            assert (text, others) == ("", [])
            return
        if others and (expected := _TYPE.fullmatch(others[0])):
            assert (content_type, others[1:]) == (expected[1], [])
            return
        assert content_type == ("application/json" if status < 400 else "application/problem+json")
        answer = json.loads(text)
        for line in others:
            if equal := _EQUAL.fullmatch(line):
                assert _at(answer, equal[1]) == self._value(equal[2]), line
            elif keep := _KEEP.fullmatch(line):
                assert keep[1] in self._variables, line
                self._variables[keep[1]] = _at(answer, keep[2])
            else:
                raise AssertionError(f"a test of a form that is not known here: {line}")

    def _value(self, expression: str) -> Any:
        variable = _VARIABLE.fullmatch(expression)
        return self._variables[variable[1]] if variable else json.loads(expression)


async def test_every_request_passes_its_tests(spawn: Callable[..., ServiceProcess]) -> None:
    collection = json.loads(_COLLECTION.read_text())
    runner = _Runner(spawn(**NO_DELAYS).url, collection["variable"])
    failures = []
    async with ClientSession() as client:
        for item in _requests(collection["item"]):
            try:
                await runner.send(client, item)
            except AssertionError as error:
                failures.append(f"{item['name']}: {error}")
        async with client.get(runner.fill("{{baseUrl}}/openapi.json")) as answer:
            paths = (await answer.json())["paths"]
    assert not failures, "\n".join(failures)
    operations = {
        (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)))
        for path, methods in paths.items()
        for method in methods
        if method in {"get", "post", "put", "patch", "delete"}
    }
    for method, pattern in operations:
        assert any(seen == method and pattern.fullmatch(path) for seen, path in runner.seen), (
            method,
            pattern,
        )
    assert runner.statuses >= {200, 201, 400, 404, 405, 409, 415, 422, 426}


def test_the_collection_has_postmans_format() -> None:
    collection = json.loads(_COLLECTION.read_text())
    assert collection["info"]["schema"].endswith("/v2.1.0/collection.json")
    names = [item["name"] for item in _requests(collection["item"])]
    assert len(names) == len(set(names))
    for item in _requests(collection["item"]):
        assert item["request"]["url"].startswith("{{baseUrl}}/"), item["name"]
        assert item["request"]["description"], item["name"]
