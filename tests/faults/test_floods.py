"""Whatever one client repeats, nobody else's order waits: a market order a second is confirmed within one."""

from collections.abc import Callable

import pytest

from tests.support.flood import LIMIT_ORDER, Outcome, Request, orders_under
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.report import Row, add

Spawn = Callable[..., ServiceProcess]

LONGEST_WAIT_S = 1.0
SHORT_S, LONG_S = 2.5, 20.0

FLOODS = {
    "duplicates": [Request("POST", "/api/orders/execute", {**LIMIT_ORDER, "clientOrderId": "again"})],
}


@pytest.mark.parametrize("kind", FLOODS)
def test_no_order_waits_for_a_flood(spawn: Spawn, kind: str) -> None:
    service = spawn(**NO_DELAYS, LOG_LEVEL="WARNING")
    outcome = orders_under(service, FLOODS[kind], seconds=SHORT_S)
    judge(kind, outcome)


@pytest.mark.long
@pytest.mark.parametrize("kind", FLOODS)
def test_no_order_waits_for_a_long_flood(spawn: Spawn, kind: str) -> None:
    service = spawn(**NO_DELAYS, LOG_LEVEL="WARNING")
    judge(kind, orders_under(service, FLOODS[kind], seconds=LONG_S))


def judge(kind: str, outcome: Outcome) -> None:
    note = ", ".join(f"{status}: {number:,}" for status, number in sorted(outcome.answers.items()))
    add(
        Row(
            f"flood: {kind}",
            outcome.answers.total(),
            orders=len(outcome.waits_s),
            slowest_recovery_s=outcome.slowest_s,
            note=note,
        )
    )
    assert outcome.slowest_s < LONGEST_WAIT_S, outcome
