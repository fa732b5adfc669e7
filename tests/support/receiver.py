"""A webhook receiver: verifies each message with the convention's own library, and answers as a test says."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.orders import Json


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it arrived; ``path`` is where."""

    path: str
    message_id: str
    signatures: list[str]
    body: Json

    @property
    def order_id(self) -> str:
        """The order that it is about."""
        return str(self.body["data"]["orderId"])

    @property
    def sequence(self) -> int:
        """The entry of the order's history."""
        return int(self.body["data"]["sequence"])


Answer = Callable[[Received], Awaitable[web.Response]]


async def accept(_message: Received) -> web.Response:
    """Answer that a message is delivered."""
    return web.Response(status=204)


def answering(status: int, **headers: str) -> Answer:
    """Return an answer of a status, with headers whose names have underscores instead of hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_message: Received) -> web.Response:
        return web.Response(status=status, headers=named)

    return answer


class Receiver:
    """An HTTP server on this machine; use it as a context manager.

    ``arrived`` are all messages, ``accepted`` those that were answered with 2xx, and ``wrong`` those whose
    signature no secret in ``secrets`` makes.
    """

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.arrived: list[Received] = []
        self.accepted: list[Received] = []
        self.wrong: list[str] = []
        self.answer: Answer = accept
        self.port = 0
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.down()

    @property
    def url(self) -> str:
        """Where it listens, with a token that is nobody else's business."""
        return f"http://127.0.0.1:{self.port}/orders?token=none-of-your-business"

    async def up(self) -> None:
        """Begin to listen, on the same port as before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = int(site.name.rpartition(":")[2])

    async def down(self) -> None:
        """Stop listening: connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def wait(self, is_done: Callable[[], bool], within_s: float = 20) -> None:
        """Wait until something is true of what has arrived."""
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(is_done)

    async def wait_for(self, count: int, within_s: float = 20) -> None:
        """Wait until a number of different messages has been accepted."""
        await self.wait(lambda: len({message.message_id for message in self.accepted}) >= count, within_s)

    def sequences(self, *, repeated: bool = False) -> dict[str, list[int]]:
        """Return the sequences of the accepted messages by order, as they arrived.

        Args:
            repeated: Whether a message may have been accepted more than once; only its first arrival counts.
        """
        found: defaultdict[str, list[int]] = defaultdict(list)
        for message in self.accepted:
            if not repeated or message.sequence not in found[message.order_id]:
                found[message.order_id].append(message.sequence)
        return dict(found)

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        message = self._verify(request, body)
        if message is None:
            self.wrong.append(body)
            return web.Response(status=400)
        self.arrived.append(message)
        await self._tell()
        response = await self.answer(message)
        if response.status < 300:
            self.accepted.append(message)
            await self._tell()
        return response

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _verify(self, request: web.Request, body: str) -> Received | None:
        headers = dict(request.headers)
        for secret in self.secrets:
            try:
                content = Webhook(secret).verify(body, headers)
            except WebhookVerificationError:
                continue
            signatures = request.headers["webhook-signature"].split(" ")
            return Received(request.path, request.headers["webhook-id"], signatures, content)
        return None
