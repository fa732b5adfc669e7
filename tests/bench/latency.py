"""Latency at half of capacity, open loop: ``python -m tests.bench.latency --minutes 10``.

Orders arrive at random (a Poisson process), whatever the service does; each is measured from the moment at
which it was due, so that a stalled service does not slow down the client that measures it. First the capacity
is measured: how many orders a second are confirmed at full load.
"""

import argparse
import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

from tests.bench.__main__ import LoadedService, metered_service
from tests.support.servers import TestCluster

_BODY = b'{"tokenIn":"%s","tokenOut":"%s","amountIn":"1","orderType":"market"}'
_PAIRS = [(b"SOL", b"USDC"), (b"USDC", b"SOL"), (b"SOL", b"JUP"), (b"JUP", b"SOL"), (b"RAY", b"USDC")]
_POST = (
    b"POST /api/orders/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
_CONNECTIONS = 64
_CAPACITY_ORDERS = 4_000

_FROM_STORED_TO_CONFIRMED = """
SELECT extract(epoch FROM o.updated_at - o.created_at)::float8
FROM orders AS o JOIN finished_orders AS f ON f.order_id = o.id
WHERE o.created_at >= %s AND f.status = 'confirmed'
"""


@dataclass
class Arrivals:
    """The measured requests: seconds from the time at which each was due to its response."""

    took_s: list[float] = field(default_factory=list)
    refused: int = 0


async def _place(port: int, rate: float, seconds: float) -> Arrivals:
    loop, rng, arrivals = asyncio.get_running_loop(), random.Random(1), Arrivals()
    free: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
    for _ in range(_CONNECTIONS):
        free.append(await asyncio.open_connection("127.0.0.1", port))

    async def post(due: float, number: int) -> None:
        reader, writer = free.popleft() if free else await asyncio.open_connection("127.0.0.1", port)
        body = _BODY % _PAIRS[number % len(_PAIRS)]
        writer.write(_POST % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        arrivals.took_s.append(loop.time() - due)
        arrivals.refused += not head.startswith(b"HTTP/1.1 201")
        free.append((reader, writer))

    requests: set[asyncio.Task[None]] = set()
    due, end, number = loop.time(), loop.time() + seconds, 0
    while due < end:
        await asyncio.sleep(max(0.0, due - loop.time()))
        request = asyncio.create_task(post(due, number))
        requests.add(request)
        request.add_done_callback(requests.discard)
        due, number = due + rng.expovariate(rate), number + 1
    await asyncio.gather(*requests)
    for _reader, writer in free:
        writer.close()
    return arrivals


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(rig: LoadedService, rate: float, minutes: float) -> None:
    """Place orders at a rate, and print how long they took."""
    with rig.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT now()")
        [(began,)] = cursor.fetchall()
        arrivals = asyncio.run(_place(rig.port, rate, 60 * minutes))
        time.sleep(2)
        cursor.execute(_FROM_STORED_TO_CONFIRMED, (began,))
        confirmed_s = [row[0] for row in cursor.fetchall()]
    print(
        f"{len(arrivals.took_s)} orders in {minutes:g} min, {rate:.0f} a second;"
        f" {arrivals.refused} refused, {len(confirmed_s)} confirmed"
    )
    for name, values in (("POST", arrivals.took_s), ("stored to confirmed", confirmed_s)):
        shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "longest": 1.0}
        figures = "  ".join(
            f"{label} {1_000 * _percentile(values, share):7.1f}" for label, share in shares.items()
        )
        print(f"{name:20} {figures}   ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=0, help="orders a second; 0: half of the capacity")
    options = parser.parse_args()
    cluster = TestCluster(durable=True)
    try:
        with metered_service(cluster) as rig:
            rate = options.rate
            if not rate:
                capacity = rig.run(_CAPACITY_ORDERS, watch=False).orders_per_s
                print(f"capacity: {capacity:.0f} orders a second")
                rate = capacity / 2
            measure(rig, rate, options.minutes)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
