"""Orders of the maximum size, inserted directly, since executing hundreds would take minutes."""

import asyncio
import json
import uuid
from typing import Any

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.deployment import Deployment
from service.store.order_events import OrderEvents
from tests.support.servers import TestServers

ENTRIES = 250
"""The entries of a full history: amended up to the limit, and executed in the remaining entries."""

_POOLS = 30


def _history(status: str, entries: int) -> list[dict[str, Any]]:
    """Return a history that ends in a status; every tenth entry begins an attempt whose price is gone."""
    found = []
    for sequence in range(1, entries + 1):
        entry: dict[str, Any] = {
            "sequence": sequence,
            "status": "open",
            "timestamp": f"2026-01-01T00:{sequence // 60:02d}:{sequence % 60:02d}.000000Z",
            "writeId": f"{sequence:016x}",
        }
        if sequence == 1:
            entry["status"] = "pending"
        elif sequence == entries and status != "open":
            entry["status"] = status
        elif sequence % 10 == 9:
            entry |= {"status": "routing", "attempt": 1 + sequence // 10}
        elif sequence % 10 == 0:
            entry |= {"reason": "limit_not_reached", "detail": "No route pays the limit price any more." * 2}
        elif sequence > 2:
            entry["amended"] = {"limitPrice": {"from": f"{999 + sequence}.5", "to": f"{1000 + sequence}.5"}}
        found.append(entry)
    return found


def _offers() -> list[dict[str, Any]]:
    return [
        {
            "venue": "raydium",
            "poolId": f"pool-{number:03d}-of-the-pair-that-is-quoted-000000",
            "amountIn": "1234.567891234",
            "amountOut": "987654.321987",
            "fees": [{"token": "SOL", "amount": "0.123456789"}],
            "priceImpact": "0.012345",
            "chosen": number < 4,
        }
        for number in range(_POOLS)
    ]


def _route() -> dict[str, Any]:
    leg = {**_offers()[0], "tokenIn": "SOL", "tokenOut": "USDC"}
    del leg["chosen"]
    return {
        "venue": "multiple",
        "amountIn": "1234.567891234",
        "amountOut": "987654.321987",
        "priceImpact": "0.012345",
        "paths": [{"amountIn": "300.5", "amountOut": "246913.5", "legs": [leg, leg]} for _ in range(4)],
        "beat": None,
    }


def store_orders(servers: TestServers, count: int, status: str, *, entries: int = ENTRIES) -> list[str]:
    """Insert limit orders with full histories, ``open`` or ``cancelled``, with quotes; return their ids."""
    order_ids = [str(uuid.uuid4()) for _ in range(count)]
    history = _history(status, entries)
    tries = [entry["sequence"] for entry in history if entry["status"] == "open" and "reason" in entry]
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "INSERT INTO orders (id, account, order_type, token_in, token_out, swap_mode, amount,"
            " amount_text, slippage_bps, time_in_force, limit_price, limit_out, status, version,"
            " status_history, created_at, updated_at, attempts, decimals_in, decimals_out)"
            " SELECT id, 'default', 'limit', 'SOL', 'USDC', 'exactIn', 1000000000, '1', 100, 'GTC',"
            " '1000000', 1000000000000, %s, %s, %s, now(), now(), %s, 9, 6 FROM unnest(%s::uuid[]) AS id",
            (status, entries, json.dumps(history), len(tries), order_ids),
        )
        cursor.execute(
            "INSERT INTO order_quotes (order_id, sequence, quotes, route)"
            " SELECT id, sequence, %s, %s FROM unnest(%s::uuid[]) AS id, unnest(%s::integer[]) AS sequence",
            (json.dumps(_offers()), json.dumps(_route()), order_ids, tries),
        )
        if status == "open":
            cursor.execute(
                "INSERT INTO open_orders (order_id, created_at, due_at, wake_at, resting, rested_at,"
                " rested_version)"
                " SELECT id, now(), 'infinity', 'infinity', true, now(), %s FROM unnest(%s::uuid[]) AS id",
                (entries, order_ids),
            )
        else:
            cursor.execute(
                "INSERT INTO finished_orders (account, status, created_at, order_id)"
                " SELECT 'default', %s, now(), id FROM unnest(%s::uuid[]) AS id",
                (status, order_ids),
            )
    return order_ids


def store_events(servers: TestServers, order_ids: list[str], *, versions: int) -> str:
    """Insert the events of the last entries of stored orders; return a position before them."""
    position = asyncio.run(_position(servers))
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "INSERT INTO order_events (account, order_id, version)"
            " SELECT account, id, version - back FROM orders, generate_series(0, %s) AS back"
            " WHERE id = ANY(%s::uuid[])",
            (versions - 1, order_ids),
        )
    return position


async def _position(servers: TestServers) -> str:
    database = Database(servers.database_url, size=1, clock=Clock())
    deployment = Deployment("oee")
    await deployment.read(database, Clock())
    position = await OrderEvents(database, Clock()).horizon()
    await database.close()
    return position.encode(deployment.id)
