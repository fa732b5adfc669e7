"""Repeated listing and delisting of pools delays no orders: the leader executes them between transactions."""

from collections.abc import Callable

import pytest

from tests.support.flood import Outcome, Request, orders_under
from tests.support.gem_market import GEM_POOL
from tests.support.judge import audit
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestServers

Spawn = Callable[..., ServiceProcess]

LONGEST_WAIT_S = 1.0
SHORT_S, LONG_S = 2.5, 20.0

PATH = "/api/paper/pools"
FLOODS = {
    # Up to the maximum number of pools; after that each request is rejected.
    "new pools": [Request("POST", PATH, {**GEM_POOL, "program": "meteora_dlmm", "tokenA": "G{n}"})],
    "one pool, on and off": [
        Request("POST", PATH, GEM_POOL),
        Request("DELETE", f"{PATH}/raydium:GEM-USDC:cpmm"),
    ],
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize(
    ("seconds", "clients"),
    [
        (SHORT_S, 8),
        pytest.param(LONG_S, 1, marks=pytest.mark.long),
        pytest.param(LONG_S, 8, marks=pytest.mark.long),
    ],
)
def test_listings_do_not_delay_orders(
    spawn: Spawn, servers: TestServers, kind: str, seconds: float, clients: int
) -> None:
    service = spawn(**NO_DELAYS, LOG_LEVEL="WARNING")
    outcome = orders_under(service, FLOODS[kind], seconds=seconds, connections=clients)
    add(row(f"flood of listings: {kind}, {clients} at once", outcome))
    assert outcome.slowest_s < LONGEST_WAIT_S, (outcome, service.output)
    assert outcome.answers["201"] > 0
    assert set(outcome.answers) <= {"201", "204", "404", "409"}, outcome
    with servers.connect() as link, link.cursor() as cursor:
        # The leader did not change.
        cursor.execute("SELECT epoch FROM paper_leader")
        assert cursor.fetchall() == [(1,)]
    audit(servers)


def row(what: str, outcome: Outcome) -> Row:
    note = ", ".join(f"{status}: {number:,}" for status, number in sorted(outcome.answers.items()))
    return Row(
        what,
        outcome.answers.total(),
        orders=len(outcome.waits_s),
        slowest_recovery_s=outcome.slowest_s,
        note=note,
    )
