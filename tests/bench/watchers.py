"""What idle watchers cost, and how soon events reach them: ``python -m tests.bench.watchers``.

Each of 100 resting limit orders is watched by a hundredth of the WebSockets. First nothing happens: the
service's memory per watcher. Then orders are amended at a steady rate, and every change goes to all watchers
of its order: the time from PostgreSQL's timestamp of the change to its arrival at the client.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from tests.bench.load import WATCH, take_frame
from tests.support.kills import Client
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.servers import TestCluster

_ORDERS = 100
_AT_ONCE = 200
# Far from the market.
_ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1", "orderType": "limit", "limitPrice": "100000"}


class _IdleWatcher(asyncio.Protocol):
    """One WebSocket; it notes when messages arrive."""

    def __init__(self, order_id: bytes, arrivals: list[tuple[float, bytes]]) -> None:
        self._order_id = order_id
        self._arrivals = arrivals
        self._buffer = b""
        self._upgraded = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(WATCH % self._order_id)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded, self._buffer = True, rest
        while taken := take_frame(self._buffer):
            opcode, payload, self._buffer = taken
            if opcode != 1:
                continue
            self._arrivals.append((time.time(), payload))
            if not self.opened.done():
                self.opened.set_result(None)


async def _watch(port: int, watchers: int, order_ids: list[str]) -> None:
    """Open the WebSockets, say so, and print the times of all messages when standard input ends."""
    loop, arrivals = asyncio.get_running_loop(), list[tuple[float, bytes]]()

    async def open_one(number: int) -> None:
        order_id = order_ids[number % len(order_ids)].encode()
        _transport, watcher = await loop.create_connection(
            lambda: _IdleWatcher(order_id, arrivals), "127.0.0.1", port
        )
        await watcher.opened

    for first in range(0, watchers, _AT_ONCE):
        await asyncio.gather(*(open_one(number) for number in range(first, min(first + _AT_ONCE, watchers))))
    # What had happened before comes first.
    await asyncio.sleep(1)
    arrivals.clear()
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    taken_ms = sorted(1_000 * (at - _timestamp(payload)) for at, payload in arrivals)
    json.dump(taken_ms, sys.stdout)


def _timestamp(payload: bytes) -> float:
    return datetime.fromisoformat(orjson.loads(payload)["timestamp"]).timestamp()


def _resident_kb(service: ServiceProcess) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _amend(client: Client, order_ids: list[str], per_second: float, seconds: float) -> None:
    began = time.monotonic()
    for number in range(int(per_second * seconds)):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        order_id, price = order_ids[number % len(order_ids)], 100_001 + number // len(order_ids)
        result = client.ask("PATCH", f"/api/orders/{order_id}", {"limitPrice": str(price)})
        assert result.status == 200, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=10_000)
    parser.add_argument(
        "--events", type=float, default=1_000, help="messages a second, to all watchers together"
    )
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--client", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        uvloop.run(_watch(options.client, options.watchers, json.loads(sys.stdin.readline())))
        return
    cluster = TestCluster(durable=True)
    try:
        _measure(cluster, options)
    finally:
        cluster.stop()


def _measure(cluster: TestCluster, options: Any) -> None:
    limit = {"MAX_CONNECTIONS": str(options.watchers + 100)}
    with ServiceProcess({**NO_DELAYS, **cluster.new().environment, **limit}) as service:
        service.wait_until_ready()
        client = Client(service)
        results = [client.ask("POST", "/api/orders/execute", _ORDER) for _ in range(_ORDERS)]
        order_ids = [result.body["orderId"] for result in results]
        before_kb = _resident_kb(service)
        arguments = [f"--client={service.port}", f"--watchers={options.watchers}"]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.bench.watchers", *arguments],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdin is not None
            assert watching.stdout is not None
            watching.stdin.write(json.dumps(order_ids) + "\n")
            watching.stdin.flush()
            began = time.monotonic()
            assert watching.stdout.readline() == "open\n", service.output[-2_000:]
            opened_s = time.monotonic() - began
            time.sleep(2)
            held_kb, cpu = _resident_kb(service) - before_kb, service.cpu_s()
            _amend(client, order_ids, options.events * _ORDERS / options.watchers, options.seconds)
            cpu = service.cpu_s() - cpu
            time.sleep(1)
            taken_ms = json.loads(watching.communicate("")[0])
    print(
        f"{options.watchers} watchers, opened in {opened_s:.1f} s: {held_kb / options.watchers:.1f} kB each"
    )
    print(
        f"{len(taken_ms) / options.seconds:.0f} messages a second: p50 {taken_ms[len(taken_ms) // 2]:.1f} ms,"
        f" p99 {taken_ms[len(taken_ms) * 99 // 100]:.1f} ms, longest {taken_ms[-1]:.1f} ms;"
        f" CPU {1_000 * cpu / len(taken_ms):.3f} ms a message"
    )


if __name__ == "__main__":
    main()
