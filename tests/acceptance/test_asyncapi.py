"""A client that knows only the AsyncAPI document follows an order."""

from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType
from jsonschema import Draft7Validator, FormatChecker

from tests.support.orders import LIFE, Client, Json, place

Start = Callable[..., Awaitable[Client]]


def target(document: Json, reference: Json) -> Json:
    """Return what a reference in the document points to."""
    found = document
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


async def test_the_stream_of_an_order_is_as_the_document_says(start: Start) -> None:
    client = await start()
    async with client.get("/asyncapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        document: Json = await answer.json()
    placed = await place(client)
    operation = document["operations"]["streamOrder"]
    channel = target(document, operation["channel"])
    payloads = [target(document, target(document, told))["payload"] for told in operation["messages"]]
    messages = Draft7Validator(
        {"anyOf": payloads, "components": document["components"]}, format_checker=FormatChecker()
    )
    address = channel["address"].format(orderId=placed["orderId"])
    statuses = []
    async with client.ws_connect(address, params={"from": 1}) as socket:
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            update = message.json()
            assert [error.message for error in messages.iter_errors(update)] == []
            statuses.append(update["status"])
    assert statuses == LIFE[1:]
    assert f"| `{socket.close_code}` |" in document["info"]["description"]
