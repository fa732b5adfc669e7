"""Watchers that reconnect receive every history exactly once; stalled ones do not affect the others."""

import asyncio
import contextlib
import json
import random
import signal
import socket
import statistics
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from tests.support.judge import judge, wait_until
from tests.support.load import place_many
from tests.support.process import ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestServers

Spawn = Callable[..., ServiceProcess]

RESTLESS = {
    "LOG_LEVEL": "WARNING",
    "QUEUE_RATE_LIMIT": "0",
    "WORKER_CONCURRENCY": "500",
    "QUOTE_DELAY_MS": "50-150",
    "EXECUTION_DELAY_MS": "100-400",
    "PAPER_FAILURE_RATE": "transient=0.4",
    "RETRY_BASE_DELAY_MS": "200",
    "INSTANCE_TIMEOUT_MS": "1000",
    "SHUTDOWN_GRACE_S": "0",
}
WATCHERS_AN_ORDER = 4
CUT_OFF_AFTER_S = 10.0


@dataclass
class Watchers:
    """Watchers that disconnect at random; ``sees`` has the statuses that each has received."""

    urls: list[str]
    rng: random.Random
    sees: list[tuple[str, list[str]]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    closes: Counter[int | None] = field(default_factory=Counter)
    messages: int = 0
    connections: int = 0

    async def follow(self, session: aiohttp.ClientSession, order_id: str) -> None:
        """Follow an order to its end, across disconnections."""
        seen: list[str] = []
        self.sees.append((order_id, seen))
        while not self.wrong:
            url = f"{self.rng.choice(self.urls)}/api/orders/{order_id}/ws?from={len(seen)}"
            try:
                async with session.ws_connect(url, max_msg_size=0) as stream:
                    self.connections += 1
                    await self._read(stream, seen)
                self.closes[stream.close_code] += 1
                if stream.close_code == 1000 and seen[-1:] in (["confirmed"], ["failed"]):
                    return
            except aiohttp.WSServerHandshakeError as error:
                if error.status != 503:
                    self.wrong.append(f"refused with {error.status}")
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)  # nothing is listening: retry at a client's pace

    async def _read(self, stream: aiohttp.ClientWebSocketResponse, seen: list[str]) -> None:
        patience = self.rng.choice([1, 2, 3, 100])
        async for message in stream:
            update = message.json()
            seen.append(update["status"])
            self.messages += 1
            if update["sequence"] != len(seen):
                self.wrong.append(f"{update['sequence']} instead of {len(seen)}")
            patience -= 1
            if not patience:
                if self.rng.random() < 0.5:
                    stream._writer.transport.abort()  # like a phone that loses its connection
                return

    async def see(self, messages: int) -> None:
        """Wait for a number of further messages."""
        wanted = self.messages + messages
        async with asyncio.timeout(30):
            while self.messages < wanted and not self.wrong:  # noqa: ASYNC110 - a count, not an event
                await asyncio.sleep(0.02)

    def judge(self, servers: TestServers) -> None:
        """Compare the received statuses with the stored ones."""
        assert not self.wrong, self.wrong[:3]
        with servers.connect() as link, link.cursor() as cursor:
            cursor.execute("SELECT id::text, status_history FROM orders")
            stored = {order_id: [e["status"] for e in history] for order_id, history in cursor.fetchall()}
        assert [(order_id, stored[order_id]) for order_id, _seen in self.sees] == self.sees


@contextlib.asynccontextmanager
async def crowd_of(crowd: Watchers, order_ids: list[str]) -> AsyncIterator[None]:
    """Run the watchers; the block ends when all have received the last message."""
    connector = aiohttp.TCPConnector(limit=0)
    async with asyncio.timeout(300), aiohttp.ClientSession(connector=connector) as session:
        watching = [
            asyncio.create_task(crowd.follow(session, order_id)) for order_id in order_ids * WATCHERS_AN_ORDER
        ]
        yield
        await asyncio.gather(*watching)


@pytest.mark.parametrize(("watchers", "rounds"), [(100, 1), pytest.param(5_000, 3, marks=pytest.mark.long)])
async def test_watchers_receive_every_history_across_disconnections(
    spawn: Spawn, servers: TestServers, watchers: int, rounds: int
) -> None:
    service = await asyncio.to_thread(spawn, **RESTLESS)
    crowd = Watchers([service.url], random.Random(watchers))
    share = watchers // WATCHERS_AN_ORDER // (2 * rounds)
    for _ in range(rounds):
        for end in (signal.SIGKILL, signal.SIGTERM):
            order_ids = await asyncio.to_thread(place_many, service, share + 1)
            async with crowd_of(crowd, order_ids):
                await crowd.see(len(order_ids) * WATCHERS_AN_ORDER)
                service.process.send_signal(end)
                code = await asyncio.to_thread(service.process.wait, 20)
                assert code == (0 if end is signal.SIGTERM else -signal.SIGKILL), service.output
                service = await asyncio.to_thread(spawn, **RESTLESS)
                crowd.urls[:] = [service.url]
    crowd.judge(servers)
    assert crowd.closes[1012] > 0, crowd.closes
    verdict = judge(servers)
    assert verdict.clean, verdict
    note = f"{crowd.messages:,} messages over {crowd.connections:,} connections, no gap, none twice"
    add(Row(f"{len(crowd.sees):,} restless watchers, kill and stop", 2 * rounds, verdict.orders, note=note))


@pytest.mark.parametrize("watchers", [100, pytest.param(5_000, marks=pytest.mark.long)])
async def test_watchers_on_the_other_instance_receive_every_history(
    spawn: Spawn, servers: TestServers, watchers: int
) -> None:
    worker = await asyncio.to_thread(spawn, **RESTLESS)
    # It executes almost no orders while the other runs: it has one worker.
    other = await asyncio.to_thread(spawn, **{**RESTLESS, "WORKER_CONCURRENCY": "1"})
    crowd = Watchers([other.url], random.Random(watchers))
    order_ids = await asyncio.to_thread(place_many, worker, watchers // WATCHERS_AN_ORDER)
    async with crowd_of(crowd, order_ids):
        await crowd.see(watchers * 2)
        crowd.urls.append(worker.url)
        await crowd.see(watchers // 2)
        crowd.urls.remove(worker.url)
        worker.process.kill()
        await asyncio.to_thread(worker.process.wait, 20)
        await asyncio.to_thread(spawn, **RESTLESS)
    crowd.judge(servers)
    verdict = judge(servers)
    assert verdict.clean, verdict
    note = f"{crowd.messages:,} messages over {crowd.connections:,} connections, no gap, none twice"
    add(Row(f"{watchers:,} watchers on the other instance, kill", 1, verdict.orders, note=note))


CALM = {
    "LOG_LEVEL": "INFO",
    "QUEUE_RATE_LIMIT": "0",
    "WORKER_CONCURRENCY": "500",
    "QUOTE_DELAY_MS": "20-60",
    "EXECUTION_DELAY_MS": "50-150",
}
TRIES = 150


def store_long_history(
    servers: TestServers, attempts: int = TRIES, *, failed: bool = False
) -> tuple[str, int]:
    """Store an order with so many attempts that its stream fills buffers; return its last sequence.

    It waits for its next attempt, in the far future, or has failed.
    """
    order_id = str(uuid.uuid4())
    status = "failed" if failed else "pending"
    walk = ["pending", *["routing", "pending"] * (attempts - 1), "routing", status]
    history = [
        {
            "sequence": place,
            "status": status,
            "timestamp": f"2026-01-01T00:00:{place // 10:02d}.{place % 10}00000Z",
            "reason": "transaction_failed",
            "detail": "x" * 100,
            "writeId": f"{place:016x}",
        }
        for place, status in enumerate(walk, 1)
    ]
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "INSERT INTO orders (id, account, order_type, token_in, token_out, swap_mode, amount,"
            " amount_text, slippage_bps, status, version, status_history, created_at, updated_at, attempts)"
            " VALUES (%s, 'default', 'market', 'SOL', 'USDC', 'exactIn', 1000000000, '1', 100, %s, %s, %s,"
            " now(), now(), %s)",
            (order_id, status, len(history), json.dumps(history), attempts),
        )
        if not failed:
            cursor.execute(
                "INSERT INTO open_orders (order_id, created_at, due_at, wake_at)"
                " VALUES (%s, now(), now() + interval '1 day', now() + interval '1 day')",
                (order_id,),
            )
    return order_id, len(history)


def stall(service: ServiceProcess, order_id: str) -> socket.socket:
    """Connect as a client that reads almost nothing."""
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    stalled.connect(("127.0.0.1", service.port))
    stalled.sendall(
        f"GET /api/orders/{order_id}/ws HTTP/1.1\r\nHost: localhost\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert b"101" in stalled.recv(15)
    return stalled


def read_rest(stalled: socket.socket) -> int:
    """Read the data buffered for a stalled client, and return its size in bytes."""
    stalled.settimeout(20)
    size = 0
    with contextlib.suppress(ConnectionResetError):
        while data := stalled.recv(65_536):
            size += len(data)
    return size


def memory_mb(service: ServiceProcess) -> float:
    """Return the process's private memory."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def held(service: ServiceProcess, clients: list[socket.socket]) -> int:
    """Return how many of these connections the service still has open (Linux only)."""
    theirs = {f"{client.getsockname()[1]:04X}" for client in clients}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # A set: the kernel writes the file in parts, and a socket that moves meanwhile is in two of them.
    ports = {
        line[2].rpartition(":")[2]
        for line in lines
        # Only the kernel has a connection without an inode.
        if line[1].endswith(f":{service.port:04X}") and line[9] != "0"
    }
    return len(ports & theirs)


async def latencies_ms(service: ServiceProcess, orders: int) -> list[float]:
    """Watch orders to their end; return the age of each live message on arrival."""
    found: list[float] = []

    async def watch(session: aiohttp.ClientSession) -> None:
        order = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1", "orderType": "market"}
        async with session.post(f"{service.url}/api/orders/execute", json=order) as answer:
            order_id = (await answer.json())["orderId"]
        async with session.ws_connect(f"{service.url}/api/orders/{order_id}/ws") as stream:
            async for message in stream:
                update = message.json()
                if update["sequence"] > 2:
                    stamp = datetime.fromisoformat(update["timestamp"]).timestamp()
                    found.append((time.time() - stamp) * 1000)

    async with asyncio.timeout(120), aiohttp.ClientSession() as session:
        for _ in range(orders // 10):
            await asyncio.gather(*(watch(session) for _ in range(10)))
    return found


def gone(service: ServiceProcess, sockets: list[socket.socket]) -> None:
    wait_until(lambda: not held(service, sockets), CUT_OFF_AFTER_S + 10)


@pytest.mark.parametrize(("stalled", "minutes"), [(20, 0.0), pytest.param(200, 5.0, marks=pytest.mark.long)])
async def test_stalled_watchers_are_closed_and_do_not_affect_others(
    spawn: Spawn, servers: TestServers, stalled: int, minutes: float
) -> None:
    service = await asyncio.to_thread(spawn, **CALM)
    order_id, last = store_long_history(servers)
    # Some ended orders fit into the buffers, some do not, and of some only the end does not.
    ended = [store_long_history(servers, 50 + number % 15, failed=True)[0] for number in range(stalled // 2)]
    watched = [order_id] * (stalled - len(ended)) + ended
    await latencies_ms(service, 50)  # warm-up
    alone_ms = statistics.median(await latencies_ms(service, 100))
    memory = [memory_mb(service)]
    ends, closed = time.monotonic() + minutes * 60, 0
    beside_ms: list[float] = []
    with contextlib.ExitStack() as open_sockets:
        while True:
            began = time.monotonic()
            sockets = [open_sockets.enter_context(stall(service, each)) for each in watched]
            endless = sockets[: -len(ended)]
            assert held(service, endless) == len(endless)
            beside_ms += await latencies_ms(service, 100)
            assert held(service, endless) == len(endless) or time.monotonic() - began > CUT_OFF_AFTER_S
            # The service has closed them, although their own side is still open.
            await asyncio.to_thread(gone, service, sockets)
            closed += stalled
            memory.append(memory_mb(service))
            if time.monotonic() >= ends:
                break
        taken = [read_rest(each) for each in sockets]
    whole = await whole_stream(service, order_id, last)
    # Each was disconnected in the middle: only a part is buffered for it.
    assert max(taken[: -len(ended)]) < whole, (taken, whole)
    assert "Traceback" not in service.output, service.output[-5_000:]
    # The second group reuses the memory that the first one needed.
    growth = memory[-1] - memory[1 if minutes else 0]
    assert growth < 30, memory
    ratio = statistics.median(beside_ms) / alone_ms
    assert statistics.median(beside_ms) < 1.2 * alone_ms + 5, (alone_ms, ratio)
    note = f"memory {growth:+.1f} MB; median latency {alone_ms:.1f} ms alone, x {ratio:.2f} beside them"
    add(Row("stalled watchers closed", closed, note=note))


async def whole_stream(service: ServiceProcess, order_id: str, last: int) -> int:
    """Return the size in bytes of an unfinished order's whole stream."""
    size = 0
    url = f"{service.url}/api/orders/{order_id}/ws"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as stream:
        for sequence in range(1, last + 1):
            data = await stream.receive_str(timeout=20)
            size += len(data)
            assert json.loads(data)["sequence"] == sequence
    return size


def test_stalled_watchers_do_not_delay_a_stop(spawn: Spawn, servers: TestServers) -> None:
    service = spawn(**CALM)
    order_id, _last = store_long_history(servers)
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(stall(service, order_id)) for _ in range(20)]
        assert held(service, sockets) == 20
        began = time.monotonic()
        assert service.stop(timeout_s=15) == 0, service.output
        took_s = time.monotonic() - began
    assert took_s < 10
    assert "Traceback" not in service.output, service.output
    add(Row("stop beside 20 stalled watchers", 1, note=f"took {took_s:.1f} s"))
