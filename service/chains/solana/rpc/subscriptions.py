"""What a WebSocket says has changed: a hint to look again, never a fact.

Nodes skip, repeat and reorder notifications, and connections fall silent. So a notification only names an
account and a slot, and a lost or silent connection says that anything may have changed.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import ClientError, ClientWebSocketResponse, WSMsgType

from service.background import Background, cancel
from service.chains.solana.rpc.budget import CallBudget
from service.chains.solana.rpc.wire import Wire, WireError
from service.clock import Clock

log = logging.getLogger(__name__)

_SILENCE_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SLOTS = "slots"


@dataclass(slots=True)
class _Connection:
    """One connection: the numbers of what was subscribed to, as asked for and as granted."""

    socket: ClientWebSocketResponse
    asked: dict[int, str] = field(default_factory=dict)
    granted: dict[int, str] = field(default_factory=dict)
    heard: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """What is called. No call may block.

    Attributes:
        on_account: With an account and the slot in which it changed.
        on_slot: With a new slot.
        on_lost: When notifications may have been missed.
    """

    on_account: Callable[[str, int], None]
    on_slot: Callable[[int], None]
    on_lost: Callable[[], None]


class Notifications:
    """Follows accounts and slots over one WebSocket, and connects again when it is lost.

    Args:
        wire: The HTTP client, started.
        url: The WebSocket's URL, a secret.
        name: The endpoint's name, for the log.
        clock: Times the pauses between connections.
        listener: What is called.
        rps: How many subscriptions per second are asked for; None: no limit.
        silence_s: After so long without any message the connection counts as lost: slots never stop.
    """

    def __init__(
        self,
        wire: Wire,
        url: str,
        name: str,
        clock: Clock,
        listener: Listener,
        *,
        rps: int | None = None,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._wire = wire
        self._url = url
        self._name = name
        self._clock = clock
        self._budget = CallBudget(clock, rps)
        self._listener = listener
        self._silence_s = silence_s
        self._wanted: dict[str, None] = {}
        self._connection: _Connection | None = None
        self._added = asyncio.Event()
        self._last_call = 0
        self._loop = Background("rpc subscriptions", self._run_forever, clock)

    @property
    def connected(self) -> bool:
        """Whether a connection is open and has said something."""
        return self._connection is not None and self._connection.heard

    def start(self) -> None:
        """Connect, and stay connected."""
        self._loop.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._loop.stop()

    def follow(self, accounts: Collection[str]) -> None:
        """Follow these accounts as well."""
        new = [account for account in accounts if account not in self._wanted]
        if new:
            self._wanted.update(dict.fromkeys(new))
            self._added.set()

    async def _run_forever(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            reason, heard = await self._connect()
            self._listener.on_lost()
            pause_s = _FIRST_PAUSE_S if heard else min(pause_s * 2, _LONGEST_PAUSE_S)
            log.warning("solana: the WebSocket of %s is lost: %s", self._name, reason, extra={"fault": "rpc"})
            await self._clock.sleep(pause_s)

    async def _connect(self) -> tuple[str, bool]:
        """Hold one connection for as long as it lasts; return why it ended, and whether it said anything."""
        try:
            socket = await self._wire.open_socket(self._url)
        except WireError as error:
            return str(error), False
        connection = self._connection = _Connection(socket)
        asking = asyncio.create_task(self._ask_forever(connection), name="rpc subscribing")
        try:
            return await self._listen(connection), connection.heard
        finally:
            self._connection = None
            await cancel([asking])
            await socket.close()

    async def _ask_forever(self, connection: _Connection) -> None:
        """Subscribe to slots, and to every account as it is wanted."""
        asked: set[str] = set()
        try:
            await self._ask(connection, _SLOTS, "slotSubscribe", [])
            while True:
                self._added.clear()
                for account in [each for each in self._wanted if each not in asked]:
                    asked.add(account)
                    # The data is read later, with the pool's other accounts.
                    config = {
                        "encoding": "base64",
                        "commitment": "processed",
                        "dataSlice": {"offset": 0, "length": 0},
                    }
                    await self._ask(connection, account, "accountSubscribe", [account, config])
                await self._added.wait()
        except (ClientError, OSError):
            # The listener sees it too.
            return

    async def _ask(self, connection: _Connection, what: str, method: str, params: Sequence[Any]) -> None:
        await self._budget.take(float("inf"))
        self._last_call += 1
        connection.asked[self._last_call] = what
        call = {"jsonrpc": "2.0", "id": self._last_call, "method": method, "params": params}
        await connection.socket.send_str(orjson.dumps(call).decode())

    async def _listen(self, connection: _Connection) -> str:
        """Receive until the connection is lost; return why."""
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    message = await connection.socket.receive()
            except TimeoutError:
                return f"nothing was heard for {self._silence_s:g} s"
            if message.type is not WSMsgType.TEXT:
                return "it was closed"
            try:
                self._receive(connection, orjson.loads(message.data))
            except ValueError:
                return "it did not send JSON"

    def _receive(self, connection: _Connection, message: Any) -> None:
        match message:
            case {"id": int(number), "result": int(granted)} if number in connection.asked:
                connection.granted[granted] = connection.asked.pop(number)
            case {"id": int(number), "error": {"code": int(code)}} if number in connection.asked:
                connection.asked.pop(number)
                log.warning(
                    "solana: %s refused a subscription (%s)", self._name, code, extra={"fault": "rpc"}
                )
            case {"method": "slotNotification", "params": {"result": {"slot": int(slot)}}}:
                connection.heard = True
                self._listener.on_slot(slot)
            case {
                "method": "accountNotification",
                "params": {"result": {"context": {"slot": int(slot)}}, "subscription": int(granted)},
            }:
                connection.heard = True
                account = connection.granted.get(granted)
                if account is not None:
                    self._listener.on_account(account, slot)
