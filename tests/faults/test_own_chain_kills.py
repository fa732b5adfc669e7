"""``kill -9`` of a service with its own chain: both end at once, and both continue."""

import random
from collections import Counter
from pathlib import Path

import pytest

from service.sandbox.keeping import running_url
from service.solana_settings import SANDBOX_FOLDER
from tests.support import report
from tests.support.judge import audit, wait_until_none_is_open
from tests.support.kills import QUICK, Client, Killer
from tests.support.load import Placed, mixed_orders, post_all
from tests.support.orders import Json
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.servers import TestCluster
from tests.support.solana_judge import judge_on_chain
from tests.support.solana_sandbox import kept_chain, pass_slots

SETTINGS = {**QUICK, "VENUE": "solana", "RETRY_BASE_DELAY_MS": "40", "QUEUE_RATE_LIMIT": "0"}
ORDERS = 5
# A block is final after 6.4 s. What expired meanwhile is tried again.
ENDED_WITHIN_S = 60


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.long)])
def test_killed_at_random_nothing_is_executed_twice(cluster: TestCluster, tmp_path: Path, kills: int) -> None:
    servers, rng = cluster.new(), random.Random(kills)
    settings = {**SETTINGS, "DATA_DIR": str(tmp_path)}
    with kept_chain(tmp_path) as chain:
        before = chain.balances()
    killer = Killer(settings, {}, life_s=(0.1, 4.0), patience_s=0)
    placed = Placed()
    for _ in range(kills):
        orders = placed.unanswered + mixed_orders(ORDERS, rng)
        placed.unanswered = []

        def place(service: ServiceProcess, orders: list[Json] = orders) -> None:
            placed.add(post_all(service, orders, clients=3))

        killer.kill(servers, None, rng, place)
    with ServiceFork({**settings, **servers.environment}) as service:
        service.wait_until_ready()
        placed.add(post_all(service, placed.unanswered))
        wait_until_none_is_open(servers, within_s=ENDED_WITHIN_S)
        assert "Traceback" not in service.output, service.output
    with kept_chain(tmp_path) as chain:
        verdict = judge_on_chain(servers, chain, before, placed.ids)
    assert verdict.clean, verdict
    assert verdict.statuses.keys() <= {"confirmed", "failed"}, verdict
    assert verdict.orders == len(set(placed.ids))
    audit(servers, settings, "--chain", "--strict")
    row = report.Row("solana: kill -9 of a service with its own chain", kills, orders=verdict.orders)
    row.note = f"ended as {dict(Counter(verdict.statuses))}"
    report.add(row)


def test_a_transaction_that_died_with_the_process_is_proved_expired_by_the_continued_chain(
    cluster: TestCluster, tmp_path: Path
) -> None:
    """It was stored and never sent; the order begins another one, which lands."""
    servers = cluster.new()
    settings = {**SETTINGS, **servers.environment, "DATA_DIR": str(tmp_path)}
    with ServiceFork({**settings, "CRASH_AT": "before send"}) as service:
        client = Client(service.wait_until_ready())
        body = {"orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}
        order_id = client.ask("POST", "/api/orders/execute", body).body["id"]
        service.process.wait(30)
        client.close()
    with kept_chain(tmp_path) as chain:
        before = chain.balances()
        chain.let_end()
    with ServiceFork(settings) as service:
        service.wait_until_ready()
        url = running_url(tmp_path / SANDBOX_FOLDER)
        assert url is not None
        # A single endpoint must say it twice, 64 slots apart.
        wait_until_none_is_open(servers, within_s=ENDED_WITHIN_S, meanwhile=lambda: pass_slots(url, 4))
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT slot IS NOT NULL FROM transactions WHERE order_id = %s AND settled_at IS NOT NULL"
            " ORDER BY sequence",
            (order_id,),
        )
        assert cursor.fetchall() == [(False,), (True,)]
    with kept_chain(tmp_path) as chain:
        verdict = judge_on_chain(servers, chain, before, [order_id])
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": 1}
    audit(servers, settings, "--chain", "--strict")
