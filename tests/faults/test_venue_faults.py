"""A venue that loses responses or transactions, is late, rejects, is slow, is down or does not sign."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.support import report
from tests.support.judge import Verdict, audit, judge, wait_until_none_is_open
from tests.support.load import place_many
from tests.support.process import NO_DELAYS, ServiceFork
from tests.support.servers import TestCluster, TestServers

SETTINGS = {
    **NO_DELAYS,
    "EXECUTION_DELAY_MS": "0-100",
    "WORKER_CONCURRENCY": "500",
    "OUTCOME_TIMEOUT_MS": "200",
    "RETRY_BASE_DELAY_MS": "50",
    "LOG_LEVEL": "WARNING",
}

# A transaction is valid for 0.6 s, or long enough that a late one still lands.
_SHORT_LIVED = {"SLOT_MS": "50", "PAPER_TX_VALID_SLOTS": "12", "MAX_RETRIES": "2"}
_LONG_LIVED = {"SLOT_MS": "50", "PAPER_TX_VALID_SLOTS": "6000"}


@dataclass(frozen=True)
class FaultCase:
    """A fault, its rate, and its expected effects."""

    faults: str
    settings: Mapping[str, str]
    orders: int
    """Of two hundred orders."""
    all_confirmed: bool = False
    reasons: frozenset[str] = frozenset()


CASES = (
    FaultCase("lost_answer=0.15", _LONG_LIVED, 80, all_confirmed=True),
    FaultCase("late=0.4", _LONG_LIVED, 20, all_confirmed=True),
    # It arrives when it can no longer land: a second transaction lands instead, or none.
    FaultCase("late=0.25", _SHORT_LIVED, 20, reasons=frozenset({"attempt_expired"})),
    FaultCase("never=0.95", _SHORT_LIVED, 20, reasons=frozenset({"attempt_expired"})),
    FaultCase("refuse=0.3", _LONG_LIVED, 20, reasons=frozenset({"transaction_rejected"})),
    FaultCase("slow=0.3", _LONG_LIVED, 20, all_confirmed=True),
    FaultCase("down=0.15,unsigned=0.3", _LONG_LIVED, 20, reasons=frozenset({"signer_unavailable"})),
    FaultCase("lost_answer=0.1,late=0.05,never=0.2,refuse=0.02,slow=0.05,down=0.05", _SHORT_LIVED, 20),
)


def _run(servers: TestServers, case: FaultCase, orders: int, *, within_s: float) -> tuple[Verdict, float]:
    environment = {**SETTINGS, **case.settings, **servers.environment, "PAPER_FAULTS": case.faults}
    with ServiceFork(environment) as service:
        service.wait_until_ready()
        promised = place_many(service, orders)
        assert len(promised) == orders
        took_s = wait_until_none_is_open(servers, within_s=within_s)
        assert service.process.poll() is None, service.output
        verdict = judge(servers, promised)
        assert verdict.clean, (case.faults, verdict)
        if case.all_confirmed:
            assert verdict.statuses == {"confirmed": orders}, (case.faults, verdict)
            assert _reasons(servers) == set(), case.faults
        assert _reasons(servers) >= case.reasons, (case.faults, _reasons(servers))
        assert "internal error in" not in service.output
        assert "Traceback" not in service.output, service.output
    assert audit(servers)["orders"] == orders
    return verdict, took_s


def _reasons(servers: TestServers) -> set[str]:
    """Return the reasons of failed attempts."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT entry ->> 'reason' FROM orders, jsonb_array_elements(status_history) AS entry"
            " WHERE entry ? 'reason'"
        )
        return {reason for (reason,) in cursor.fetchall()}


def _run_all(cluster: TestCluster, *, times: int, lanes: int, within_s: float) -> None:
    with ThreadPoolExecutor(lanes) as pool:
        runs = [
            pool.submit(_run, cluster.new(), case, case.orders * times, within_s=within_s) for case in CASES
        ]
        results = [run.result() for run in runs]
    for case, (verdict, took_s) in zip(CASES, results, strict=True):
        note = f"{verdict.statuses['confirmed']} confirmed, {verdict.statuses['failed']} failed"
        report.add(
            report.Row(f"venue: {case.faults}", 1, verdict.orders, slowest_recovery_s=took_s, note=note)
        )


def test_two_hundred_orders_under_every_fault_of_the_venue(cluster: TestCluster) -> None:
    _run_all(cluster, times=1, lanes=len(CASES), within_s=40)


@pytest.mark.long
def test_twenty_thousand_orders_under_every_fault_of_the_venue(cluster: TestCluster) -> None:
    _run_all(cluster, times=100, lanes=2, within_s=600)
