"""A database of the first release, with orders in every status, goes on under this one."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from service.clock import Clock
from service.store.database import Database
from service.store.migrations import load, migrate
from solders.signature import Signature

from tests.conftest import Client
from tests.support.judge import audit_now
from tests.support.servers import TestCluster, TestServers

_FIRST_RELEASE = 2

# What became of the last attempt of an order that stood at `submitted` when the old process was killed.
_NEVER_SENT, _SENT, _LANDED = "never sent", "sent", "landed"

_ORDER = """
INSERT INTO orders (
    id, account, order_type, token_in, token_out, amount_in, amount_in_text, slippage_bps, status, version,
    status_history, created_at, updated_at, tries, amount_out, tx_hash
)
SELECT
    %(id)s, 'default', 'market', 'SOL', 'USDC', 1000000000, '1', 100, %(status)s, %(version)s,
    (
        SELECT jsonb_agg(jsonb_build_object(
            'sequence', n, 'status', step, 'timestamp', rfc3339(now()), 'writeId', 'w' || n
        ) ORDER BY n)
        FROM unnest(%(history)s::text[]) WITH ORDINALITY AS steps (step, n)
    ),
    now(), now(), 1, %(amount_out)s, %(tx_hash)s;
"""
_LIFE = ["pending", "routing", "building", "submitted", "confirmed"]


def _id(number: int) -> str:
    return f"01a20000-0000-7000-8000-{number:012d}"


def _write_the_first_release_s(servers: TestServers) -> dict[str, str]:
    """Write one order for each status, and for each state of an attempt; return what was written as."""
    orders: dict[str, str] = {}
    with servers.connect() as connection, connection.cursor() as cursor:

        def write(status: str, what: str, amount_out: int | None = None, tx_hash: str | None = None) -> str:
            order_id = _id(len(orders) + 1)
            orders[order_id] = what
            history = _LIFE[: _LIFE.index(status) + 1]
            row = {
                "id": order_id,
                "status": status,
                "version": len(history),
                "history": history,
                "amount_out": amount_out,
                "tx_hash": tx_hash,
            }
            cursor.execute(_ORDER, row)
            if status != "confirmed":
                cursor.execute(
                    "INSERT INTO open_orders (order_id, created_at, started, due_at, wake_at)"
                    " VALUES (%s, now(), %s, now(), now())",
                    (order_id, status != "pending"),
                )
            return order_id

        def sign(order_id: str, signature: Signature) -> None:
            message = {
                "order_id": order_id,
                "attempt": 1,
                "venue": "raydium",
                "pool_id": "raydium:SOL-USDC",
                "token_in": "SOL",
                "token_out": "USDC",
                "amount_in": 10**9,
                "minimum_out": 1,
                "last_valid_slot": 2**40,
            }
            transaction = bytes(signature) + json.dumps(message).encode()
            cursor.execute(
                "INSERT INTO attempts VALUES (%s, %s, 4, 'raydium', decode(%s, 'base64'), 1, %s)",
                (str(signature), order_id, base64.b64encode(transaction).decode(), 2**40),
            )

        def ledger(order_id: str, signature: Signature, status: str, amount_out: int | None = None) -> None:
            cursor.execute(
                "INSERT INTO paper_transactions (signature, order_id, attempt, venue, pool_id, token_in,"
                " token_out, status, amount_in, minimum_out, amount_out, last_valid_slot, submitted_at,"
                " lands_at, settled_at) VALUES (%s, %s, 1, 'raydium', 'raydium:SOL-USDC', 'SOL', 'USDC', %s,"
                " 1000000000, 1, %s, %s, now(), now(), %s)",
                (str(signature), order_id, status, amount_out, 2**40, "now" if amount_out else None),
            )

        for status in ("pending", "routing", "building"):
            write(status, status)
        for state in (_NEVER_SENT, _SENT, _LANDED):
            order_id = write("submitted", state)
            signature = _signature(len(orders))
            sign(order_id, signature)
            if state == _SENT:
                ledger(order_id, signature, "pending")
            if state == _LANDED:
                ledger(order_id, signature, "landed", 150_000_000)
        signature = _signature(0)
        order_id = write("confirmed", "confirmed", 149_000_000, str(signature))
        cursor.execute(
            "INSERT INTO finished_orders SELECT status, created_at, id FROM orders WHERE id = %s", (order_id,)
        )
        sign(order_id, signature)
        ledger(order_id, signature, "landed", 149_000_000)
    return orders


def _signature(number: int) -> Signature:
    """Return a signature, another for each number."""
    return Signature.from_bytes(bytes([number]) * Signature.LENGTH)


@pytest.fixture
def servers(cluster: TestCluster) -> TestServers:
    """Return a database that knows no schema yet."""
    return cluster.new(empty=True)


@pytest.fixture
async def old_orders(servers: TestServers) -> dict[str, str]:
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database, load()[:_FIRST_RELEASE])
    await database.close()
    return _write_the_first_release_s(servers)


async def test_orders_of_the_first_release_go_on(
    old_orders: dict[str, str], servers: TestServers, start: Callable[..., Awaitable[Client]]
) -> None:
    client = await start(RETRY_BASE_DELAY_MS="100")
    ended = await _all_ended(client, list(old_orders))
    for order_id, what in old_orders.items():
        order = ended[order_id]
        assert order["status"] == "confirmed", (what, order["statusHistory"])
        assert order["swapMode"] == "exactIn"
        assert order["amountIn"] == "1"
        # What had landed is what it is confirmed by; what had not was tried anew.
        tries = [entry["status"] for entry in order["statusHistory"]].count("routing")
        assert tries == (2 if what in {_NEVER_SENT, _SENT} else 1), what
        if what == _LANDED:
            assert order["amountOut"] == "150"
    assert await audit_now(servers) == []


async def _all_ended(client: Client, order_ids: list[str]) -> dict[str, dict[str, Any]]:
    ended = {}
    for order_id in order_ids:
        async with client.ws_connect(f"/api/orders/{order_id}/ws") as socket:
            async for message in socket:
                ended[order_id] = message.json()["order"]
    return ended
