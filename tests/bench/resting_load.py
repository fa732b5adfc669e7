"""Places the same order many times over a fixed number of connections, in its own process.

``python -m tests.bench.resting_load``; the order comes on stdin, the seconds it took go to stdout.
"""

import argparse
import asyncio
import json
import sys
import time

import uvloop

from tests.bench.load import _POST, _Poster


async def _run(port: int, orders: int, clients: int, body: bytes) -> float:
    loop = asyncio.get_running_loop()
    left = orders

    def next_request() -> bytes | None:
        nonlocal left
        if left == 0:
            return None
        left -= 1
        return _POST % (len(body), body)

    async def client() -> None:
        poster: _Poster
        _transport, poster = await loop.create_connection(
            lambda: _Poster(next_request, lambda _order_id: poster.send()), "127.0.0.1", port
        )
        await poster.done

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.monotonic() - began


def main() -> None:
    """Place the orders and print how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--clients", type=int, default=50)
    options = parser.parse_args()
    body = sys.stdin.buffer.read()
    json.dump(uvloop.run(_run(options.port, options.orders, options.clients, body)), sys.stdout)


if __name__ == "__main__":
    main()
