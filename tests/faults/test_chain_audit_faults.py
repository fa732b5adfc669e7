"""Orders on a Solana chain whose nodes fail in every way: the audit then finds nothing against them."""

import json
import random
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support import report
from tests.support.judge import open_orders
from tests.support.load import mixed_orders, post_all
from tests.support.process import ServiceFork, ServiceProcess, run_command
from tests.support.servers import TestCluster, TestServers

SLOT_MS = 50
ENDPOINTS = ("/", "/2", "/3")
_PPM = 1_000_000

# What is armed at every endpoint until the end.
_ALWAYS: tuple[Mapping[str, Any], ...] = (
    {"kind": "drop", "method": "sendTransaction", "rate_ppm": _PPM // 4},
    {"kind": "lose_answer", "method": "sendTransaction", "rate_ppm": _PPM // 4},
    {"kind": "lose_answer", "rate_ppm": _PPM // 50},
    {"kind": "error", "rate_ppm": _PPM // 50},
    {"kind": "garbage", "form": "null_result", "method": "getTransaction", "rate_ppm": _PPM // 10},
    {"kind": "unavailable", "rate_ppm": _PPM // 50},
)
_SETTINGS = {
    "VENUE": "solana",
    "QUEUE_RATE_LIMIT": "0",
    "SOLANA_MAX_SNAPSHOT_SLOTS": "150",
    "RETRY_BASE_DELAY_MS": "100",
    "LOG_LEVEL": "ERROR",
}


def post(chain: ServiceProcess, path: str, body: Mapping[str, Any], method: str = "POST") -> None:
    """Arm faults, or clear them."""
    request = urllib.request.Request(  # noqa: S310 - this machine
        chain.url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - this machine
        pass


def disturb(chain: ServiceProcess, rng: random.Random, *, late: bool) -> None:
    """Do to the chain what may happen at any time."""
    kind = rng.choice(["fork", "forget", "skip", "move", "late" if late else "move"])
    if kind == "fork":
        post(chain, "/sandbox/faults", {"kind": "fork", "depth": rng.randint(1, 20)})
    elif kind == "forget":
        post(chain, "/sandbox/faults", {"kind": "fork", "depth": rng.randint(1, 20), "keep": False})
    elif kind == "skip":
        post(chain, "/sandbox/faults", {"kind": "skip", "slots": rng.randint(1, 8)})
    elif kind == "move":
        post(chain, "/sandbox/faults", {"kind": "move_pool", "bps": 300, "times": 1})
    else:
        post(chain, "/sandbox/faults", {"kind": "late", "endpoint": rng.choice(ENDPOINTS), "times": 1})


def audit_after_faults(
    cluster: TestCluster, orders: int, *, late: bool, disturb_s: float, within_s: float
) -> None:
    """Execute orders under faults until all have ended, and audit them."""
    servers, rng = cluster.new(), random.Random(orders)
    arguments = ("sandbox", "--port", "0", "--slot-ms", str(SLOT_MS), "--endpoints", str(len(ENDPOINTS)))
    try:
        with ServiceFork({}, arguments) as chain:
            chain.wait_until_ready()
            urls = ",".join(chain.url + path for path in ENDPOINTS)
            environment = {**_SETTINGS, **servers.environment, "SOLANA_RPC_URLS": urls}
            with ServiceFork(environment) as service:
                service.wait_until_ready()
                for endpoint in ENDPOINTS:
                    for fault in _ALWAYS:
                        post(chain, "/sandbox/faults", {**fault, "endpoint": endpoint, "times": None})
                placed = post_all(service, mixed_orders(orders, rng))
                disturbed = run_to_the_end(
                    chain, servers, rng, late=late, disturb_s=disturb_s, within_s=within_s
                )
                # The service goes on, and so do the faults.
                found = audited(environment)
            assert found["findings"] == []
            assert found["warnings"] == []
            assert (found["open_orders"], found["in_flight"]) == (0, 0)
            assert 0 < found["landed"] <= found["orders"] == len(placed.ids)
            report.add(
                report.Row(
                    "Solana nodes, then audit --chain",
                    disturbed,
                    found["orders"],
                    note=f"{found['landed']} landed",
                )
            )
    finally:
        cluster.drop(servers)


def run_to_the_end(
    chain: ServiceProcess,
    servers: TestServers,
    rng: random.Random,
    *,
    late: bool,
    disturb_s: float,
    within_s: float,
) -> int:
    """Disturb the chain for a while, and wait until no order is open; return how often it was."""
    began, disturbed = time.monotonic(), 0
    while left := open_orders(servers):
        assert time.monotonic() - began < within_s, f"{len(left)} orders are open"
        # Not all the time, or nothing would ever be final.
        if time.monotonic() - began < disturb_s:
            disturb(chain, rng, late=late)
            disturbed += 1
        time.sleep(0.5)
    return disturbed


def audited(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the report of the command."""
    done = run_command(environment, "audit", "--chain", "--json", timeout_s=540)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["findings"] else 0), done.stderr
    return found


def test_orders_under_faults_are_audited_without_a_finding(cluster: TestCluster) -> None:
    audit_after_faults(cluster, 20, late=False, disturb_s=5, within_s=90)


@pytest.mark.long
def test_a_thousand_orders_under_faults_are_audited_without_a_finding(cluster: TestCluster) -> None:
    # Some are refused: the wallet cannot pay them.
    audit_after_faults(cluster, 1_200, late=True, disturb_s=120, within_s=480)
