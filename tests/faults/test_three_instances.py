"""Three instances on one database: they share the work evenly, and the loss of the leader is short."""

import itertools
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

import pytest
from psycopg2.extensions import connection

from tests.support import report
from tests.support.judge import audit, judge, wait_until, wait_until_none_is_open
from tests.support.kills import Client
from tests.support.load import place_many
from tests.support.orders import Json
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.servers import TestCluster, TestServers

# Each instance logs in with its own role, so that PostgreSQL records which one wrote what.
_ROLES = ("first", "second", "third")
_WITNESS = """
CREATE TABLE done_by (role text DEFAULT session_user, what text, order_id uuid);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'open_orders' THEN
        INSERT INTO done_by (what, order_id) VALUES ('claim', NEW.order_id);
    ELSE
        INSERT INTO done_by (what) VALUES ('lead');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON open_orders FOR EACH ROW
    WHEN (NEW.owner IS NOT NULL AND NEW.owner IS DISTINCT FROM OLD.owner) EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER UPDATE ON paper_leader FOR EACH ROW
    WHEN (NEW.epoch IS DISTINCT FROM OLD.epoch) EXECUTE FUNCTION note();
"""

SETTINGS = {**NO_DELAYS, "QUEUE_RATE_LIMIT": "0", "INSTANCE_TIMEOUT_MS": "1000", "LOG_LEVEL": "WARNING"}
_SLOWER = {"WORKER_CONCURRENCY": "5", "QUOTE_DELAY_MS": "20-40"}

_WITHOUT_A_LEADER_S = 5.0
_LIMIT_ORDER: Json = {
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amountIn": "1",
    "orderType": "limit",
    "limitPrice": "1",
}


class Instances:
    """Instances of a service, each with a role of its own. Use it as a context manager.

    Args:
        servers: Where they run.
        changes: Their settings, beside ``SETTINGS``.
    """

    def __init__(self, servers: TestServers, **changes: str) -> None:
        self.servers = servers
        self.running: dict[str, ServiceProcess] = {}
        self._changes = changes
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ServiceFork(self.servers.environment, ("migrate",)) as migration:
            assert migration.process.wait(30) == 0, migration.output
        self.link: connection = self._stack.enter_context(self.servers.connect())
        for role in _ROLES:
            self._run(
                f"DO $$ BEGIN CREATE ROLE {role} SUPERUSER LOGIN;"
                " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
        self._run(_WITNESS)
        for role in _ROLES:
            self.start(role)
        for service in self.running.values():
            service.wait_until_ready()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def start(self, role: str) -> ServiceProcess:
        """Start an instance."""
        url = self.servers.database_url.replace("user=postgres", f"user={role}")
        environment = replace(self.servers, database_url=url).environment
        service = self._stack.enter_context(ServiceFork({**SETTINGS, **environment, **self._changes}))
        self.running[role] = service
        return service

    def claims(self) -> Counter[str]:
        """Return how many orders each has claimed."""
        return Counter(
            dict(self._run("SELECT role, count(*) FROM done_by WHERE what = 'claim' GROUP BY role"))
        )

    def leader(self) -> str:
        """Return which one led last."""
        found = self._run("SELECT role FROM done_by WHERE what = 'lead' ORDER BY ctid DESC LIMIT 1")
        return str(found[0][0])

    def _run(self, sql: str) -> list[tuple[str, int]]:
        with self.link.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def test_three_instances_share_the_orders_that_one_of_them_accepts(cluster: TestCluster) -> None:
    with Instances(cluster.new(), **_SLOWER) as instances:
        placed = place_many(instances.running["first"], 300)
        wait_until_none_is_open(instances.servers, within_s=30)
        claims = instances.claims()
    verdict = judge(instances.servers, placed)
    assert verdict.clean, verdict
    assert verdict.orders == 300
    assert set(claims) == set(_ROLES)
    assert min(claims.values()) >= 60, claims


@pytest.mark.parametrize("losses", [1, pytest.param(20, marks=pytest.mark.long)])
def test_the_loss_of_the_leader_delays_orders_by_less_than_five_seconds(
    cluster: TestCluster, losses: int
) -> None:
    """It executes the paper market and fires resting orders; two others are there to take over."""
    placed: list[str] = []
    slowest = 0.0
    with Instances(cluster.new()) as instances:
        roles = itertools.cycle(_ROLES)
        for _ in range(losses):
            # Whoever accepts the orders: any of them.
            placed += place_many(instances.running[next(roles)], 10, clients=2)
            lost = instances.leader()
            instances.running.pop(lost).kill()
            began = time.monotonic()
            for service in instances.running.values():
                placed += _wait_until_it_executes(service)
            slowest = max(slowest, time.monotonic() - began)
            assert slowest < _WITHOUT_A_LEADER_S
            assert instances.leader() != lost
            instances.start(lost).wait_until_ready()
        wait_until_none_is_open(instances.servers, within_s=30)
        for service in instances.running.values():
            assert "Traceback" not in service.output, service.output
    # The histories of the limit orders, which ``judge`` does not know, are checked by the audit.
    verdict = judge(instances.servers, placed)
    assert [*verdict.unfinished, *verdict.twice, *verdict.untrue] == []
    assert verdict.statuses == {"confirmed": len(placed)}
    audit(instances.servers)
    report.add(
        report.Row("the leader of three is killed", losses, verdict.orders, slowest_recovery_s=slowest)
    )


def _wait_until_it_executes(service: ServiceProcess) -> list[str]:
    """Place a market order and a limit order that can be paid, and wait until both are confirmed."""
    client = Client(service)
    placed: list[str] = []
    for order in ({**_LIMIT_ORDER, "orderType": "market", "limitPrice": None}, _LIMIT_ORDER):
        result = client.ask("POST", "/api/orders/execute", order)
        assert result.status == 201, result
        placed.append(result.body["orderId"])
    for order_id in placed:
        wait_until(
            lambda order_id=order_id: (  # type: ignore[misc]
                client.ask("GET", f"/api/orders/{order_id}").body.get("status") == "confirmed"
            )
        )
    client.close()
    return placed
