"""The audit finds every violation in the tables, and none in valid ones."""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

import service.audit
from service.chains.audit import Finding, LedgerReport
from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import MigrationError
from tests.support.judge import audit_now
from tests.support.orders import Client, execute
from tests.support.process import PROJECT
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]


def audit(servers: TestServers) -> tuple[int, list[str]]:
    """Run the audit as an operator does; return its exit code and what it found."""
    run = subprocess.run(
        [sys.executable, "-m", "service", "audit", "--json"],
        env={**servers.environment, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stdout, run.stderr
    return run.returncode, [finding["what"] for finding in json.loads(run.stdout)["findings"]]


def spoil(servers: TestServers, statement: str) -> None:
    """Corrupt the tables in a way that the engine never does."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("ALTER TABLE orders DROP CONSTRAINT IF EXISTS orders_last_entry")
        cursor.execute("ALTER TABLE orders DROP CONSTRAINT IF EXISTS orders_filled")
        cursor.execute("ALTER TABLE orders DROP CONSTRAINT IF EXISTS orders_expiry")
        cursor.execute(statement)


_USES_A_BUDGET = """
INSERT INTO open_orders (order_id, created_at, due_at, wake_at, key_id, used_token, used_amount, used_usd)
SELECT id, created_at, now(), now(), 'bot', 'SOL', 5, 7 FROM orders;
"""

SPOILS = [
    ("DELETE FROM paper_transactions", "confirmed, and has not landed"),
    (
        "UPDATE paper_transactions SET amount_out = amount_out + 1",
        "confirmed with other amounts, or by another transaction, than the ledger has",
    ),
    (
        """UPDATE paper_transactions SET residue = '[{"token": "USDC", "amount": 7}]'""",
        "confirmed with other amounts, or by another transaction, than the ledger has",
    ),
    (
        "UPDATE paper_transactions SET amount_in = amount_in - 1",
        "confirmed with other amounts, or by another transaction, than the ledger has",
    ),
    (
        "UPDATE paper_transactions SET signature = 'another'",
        "confirmed with other amounts, or by another transaction, than the ledger has",
    ),
    (
        "INSERT INTO paper_transactions (signature, order_id, attempt, status, amount_in, minimum_out,"
        " amount_out, last_valid_slot, submitted_at, settled_at)"
        " SELECT 'again', order_id, attempt, status, amount_in, minimum_out, amount_out, last_valid_slot,"
        " submitted_at, settled_at FROM paper_transactions",
        "landed 2 times",
    ),
    (
        "UPDATE paper_transactions SET landed_slot = landed_slot - 1",
        "confirmed with another landing than the ledger has",
    ),
    (
        "UPDATE paper_transactions SET settled_at = settled_at + interval '1 us'",
        "confirmed with another landing than the ledger has",
    ),
    (
        "UPDATE orders SET expires_at = (status_history -> -1 ->> 'landedAt')::timestamptz - interval '2 s'",
        "landed 2.000000 s after its time",
    ),
    (
        "UPDATE orders SET status = 'expired', expires_at = updated_at + interval '1 s', status_history ="
        " jsonb_set(status_history, '{4}', status_history -> 4 || '{\"status\": \"expired\"}')",
        "expired 1.000000 s before its time",
    ),
    (
        "UPDATE paper_transactions SET order_id = gen_random_uuid()",
        "landed, and there is no such order",
    ),
    ("UPDATE orders SET status = 'expired'", "expired, and has landed"),
    ("UPDATE orders SET network_cost = 5000", "cost 5000 lamports, and its transactions nothing"),
    (
        "UPDATE transactions SET network_fee = 5000, tip = 0, rent = 2000",
        "cost nothing lamports, and its transactions 7000",
    ),
    (
        "UPDATE paper_transactions SET status = 'pending', settled_at = NULL, amount_out = NULL,"
        " landed_slot = NULL",
        "confirmed, and a transaction of it may still land",
    ),
    (
        "UPDATE orders SET status_history = jsonb_set(status_history, '{2,sequence}', '9')",
        "entry 3 has the sequence 9",
    ),
    (
        "UPDATE orders SET status_history ="
        " jsonb_set(status_history, '{3,timestamp}', '\"2020-01-01T00:00:00Z\"')",
        "entry 4 is earlier than the one before",
    ),
    (
        "UPDATE orders SET status_history = jsonb_set(status_history, '{2,status}', '\"confirmed\"')",
        "routing was followed by confirmed",
    ),
    (
        "UPDATE orders SET status_history = jsonb_set(status_history, '{0,awaitingApproval}', 'true')",
        "submitted, and was not approved",
    ),
    (
        "INSERT INTO open_orders (order_id, created_at, due_at, wake_at)"
        " SELECT id, created_at, now(), now() FROM orders",
        "confirmed, and still among the open orders",
    ),
    (
        "UPDATE orders SET status = 'submitted'",
        "submitted, and not among the open orders",
    ),
    (
        "INSERT INTO open_orders (order_id, created_at, due_at, wake_at)"
        " SELECT id, created_at, now() - interval '1 hour', now() - interval '1 minute' FROM orders",
        "and no process has claimed it",
    ),
    (
        "INSERT INTO open_orders (order_id, created_at, due_at, wake_at, owner)"
        " SELECT id, created_at, now(), now(), gen_random_uuid() FROM orders;"
        "UPDATE orders SET created_at = created_at - interval '1 hour',"
        " updated_at = updated_at - interval '1 hour'",
        "owned by a process that is gone",
    ),
    *[
        (f"{_USES_A_BUDGET}{counted}", "and less is counted")
        for counted in (
            "",
            "INSERT INTO key_usage SELECT 'bot', date_trunc('minute', created_at), 'SOL', 5, 6 FROM orders",
            "INSERT INTO key_usage"
            " SELECT 'bot', date_trunc('minute', created_at), 'SOL', 9, 9 FROM orders;"
            "INSERT INTO key_refunds"
            " SELECT 'bot', date_trunc('minute', created_at), 'SOL', 5, 0 FROM orders",
        )
    ],
    (
        "UPDATE paper_wallets SET balance = balance + 1 WHERE owner = 'user' AND token = 'BONK'",
        "1 base units of it came from nowhere",
    ),
    (
        "UPDATE paper_wallets SET balance = balance - 1 WHERE owner = 'traders' AND token = 'SOL'",
        "-1 base units of it came from nowhere",
    ),
    (
        "UPDATE paper_pools SET vault_a = vault_a + 1 WHERE id = 'raydium:SOL-USDC:amm-v4'",
        "1 base units of it came from nowhere",
    ),
    (
        "DELETE FROM paper_pools WHERE id = (SELECT id FROM paper_pools WHERE vault_a <> initial_a LIMIT 1)",
        "base units of it came from nowhere",
    ),
]


@pytest.mark.parametrize(("statement", "finding"), SPOILS, ids=range(len(SPOILS)))
async def test_each_violation_is_found(
    start: Start, servers: TestServers, statement: str, finding: str
) -> None:
    client = await start()
    await execute(client, amountIn="20000")
    # Otherwise the market's leader would overwrite it with its own state.
    await client.close()
    spoil(servers, statement)
    found = await audit_now(servers)
    assert any(what.endswith(finding) for what in found), found


@pytest.mark.parametrize(
    "change",
    ["UPDATE venue_identity SET since = now()", "UPDATE venue_identity SET kind = 'solana'"],
    ids=["earlier", "other"],
)
async def test_orders_of_another_venue_are_not_expected_in_this_ledger(
    start: Start, servers: TestServers, change: str
) -> None:
    client = await start()
    await execute(client)
    await client.close()
    spoil(servers, "DELETE FROM paper_transactions")
    spoil(servers, change)
    found = await audit_now(servers)
    assert not any(what.endswith("has not landed") for what in found), found


async def test_what_the_venue_finds_stands_among_what_the_engine_finds(
    start: Start, servers: TestServers
) -> None:
    class Ledger:
        async def compare(self, _session: object) -> LedgerReport:
            return LedgerReport(7, [Finding("SOL", "came from nowhere"), Finding("0", "has not landed")])

    client = await start()
    order = await execute(client)
    await client.close()
    spoil(servers, "UPDATE orders SET status_history = jsonb_set(status_history, '{2,sequence}', '9')")
    database = Database(servers.database_url, size=1, clock=Clock())
    try:
        report = await service.audit.audit(database, Ledger())
    finally:
        await database.close()
    assert (report.orders, report.open_orders, report.landed) == (1, 0, 7)
    assert [finding.order_id for finding in report.findings] == ["0", order["id"], "SOL"]


async def test_the_command_reports_the_violations(start: Start, servers: TestServers) -> None:
    client = await start()
    await execute(client)
    await client.close()
    statement, finding = SPOILS[0]
    spoil(servers, statement)
    code, found = audit(servers)
    assert code == 1
    assert [what.endswith(finding) for what in found] == [True], found


async def test_valid_tables_pass(start: Start, servers: TestServers) -> None:
    client = await start(PAPER_FAILURE_RATE="transient=0.4,permanent=0.2", RETRY_BASE_DELAY_MS="5")
    for _ in range(10):
        await execute(client)
        await execute(client, tokenIn="RAY", tokenOut="BONK", amountOut="12345.6")
    assert audit(servers) == (0, [])


async def test_a_schema_that_is_missing_or_older_is_said_so(servers: TestServers) -> None:
    spoil(
        servers, "DELETE FROM schema_migrations WHERE version = (SELECT max(version) FROM schema_migrations)"
    )
    database = Database(servers.database_url, size=1, clock=Clock())
    try:
        with pytest.raises(MigrationError, match="no orders yet, or is of an older version"):
            await service.audit.audit(database, None)
    finally:
        await database.close()
