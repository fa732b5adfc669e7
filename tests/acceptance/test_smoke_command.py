"""``python -m service smoke`` on a local chain with short slots, as a user runs it on a cluster."""

import re
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.judge import wait_until
from tests.support.process import ServiceFork, run_command
from tests.support.servers import TestCluster, TestServers

SLOT_MS = "40"
KEY = "s3cr3t-of-the-url"
STEPS = [
    "Endpoints",
    "Start of the service",
    "Funds",
    "Doctor",
    "A swap each way, raydium_cpmm",
    "A swap each way, raydium_amm_v4",
    "A swap each way, meteora_dlmm",
    "A swap each way, meteora_damm_v2",
    "A split over two pools",
    "A kill between signing and sending",
    "A transaction that becomes too old",
    "Audit",
]
COMMAND = ("smoke", "--cluster", "sandbox", "--slot-ms", SLOT_MS, "--use-servers")


def settings_of(servers: TestServers, folder: Path) -> dict[str, str]:
    # What a killed instance leaves is taken over soon, and short slots leave as much time as long ones.
    quick = {"INSTANCE_TIMEOUT_MS": "500", "SOLANA_MAX_SNAPSHOT_SLOTS": "50"}
    return {**servers.environment, **quick, "DATA_DIR": str(folder)}


def results(report: str) -> Mapping[str, str]:
    rows = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    return dict(rows[2:])


def report_in(folder: Path) -> str:
    [file] = folder.glob("smoke/*/report.md")
    return file.read_text()


@dataclass(frozen=True)
class WholeRun:
    """The command, with all its steps."""

    process: ServiceFork
    servers: TestServers
    folder: Path


@pytest.fixture(scope="module", autouse=True)
def whole_run(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeRun]:
    """Begin before all other tests of this file: most of it is waiting."""
    servers, folder = cluster.new(), tmp_path_factory.mktemp("whole")
    with ServiceFork(settings_of(servers, folder), COMMAND) as process:
        yield WholeRun(process, servers, folder)
    cluster.drop(servers)


def test_a_step_that_fails_is_told_with_its_reason_and_without_the_endpoints_key(
    servers: TestServers, tmp_path: Path
) -> None:
    with ServiceFork({}, ("sandbox", "--port", "0", "--slot-ms", SLOT_MS)) as chain:
        chain.wait_until_ready()
        settings = {
            **settings_of(servers, tmp_path),
            "SOLANA_RPC_URLS": f"{chain.url}/?api-key={KEY}",
            "SOLANA_MAX_FEE": "0.000001",
            "MAX_RETRIES": "0",
        }
        done = run_command(settings, *COMMAND, timeout_s=120)
    assert done.returncode == 1
    found = results(done.stdout)
    assert list(found) == STEPS
    swaps, kills = STEPS[4:9], STEPS[9:11]
    assert {step for step, result in found.items() if result == "FAILED"} == set(swaps)
    assert {step for step, result in found.items() if result == "skipped"} == set(kills)
    assert done.stdout.count("network_fee_too_high") == len(swaps)
    written = [file.read_text() for file in tmp_path.glob("smoke/*/*") if file.is_file()]
    assert KEY not in "".join((done.stdout, done.stderr, *written))


def test_a_stop_ends_everything_that_it_has_started(servers: TestServers, tmp_path: Path) -> None:
    with ServiceFork(settings_of(servers, tmp_path), COMMAND) as process:
        wait_until(lambda: "Funds: passed" in process.output)
        [log] = tmp_path.glob("smoke/*/1-sandbox.log")
        port = int(log.read_text().splitlines()[0].rpartition(":")[2])
        assert process.stop() == 128 + signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert not list(tmp_path.glob("smoke/*/report.md"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--amount", "0"), "error: --amount must be greater than zero"),
        (("--slot-ms", "0"), "error: --slot-ms must be greater than zero"),
    ],
)
def test_what_it_cannot_do_is_refused_in_one_line(
    arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    done = run_command({"DATA_DIR": str(tmp_path)}, "smoke", "--cluster", "sandbox", *arguments)
    assert (done.returncode, done.stderr.splitlines()) == (1, [reason])
    assert not list(tmp_path.iterdir())


def test_all_of_it_passes_on_a_chain_of_its_own(whole_run: WholeRun) -> None:
    code, output = whole_run.process.process.wait(240), whole_run.process.output
    assert code == 0, output
    report = report_in(whole_run.folder)
    assert report in output
    assert results(report) == dict.fromkeys(STEPS, "passed")
    assert output.splitlines()[:2] == ["Endpoints: passed", "Start of the service: passed"]
    # On a busy machine its blocks may be over before the instance has been restarted.
    assert re.search("after the restart (the same transaction|another attempt's) landed", report)
    assert report.count("it does not know the signature in its whole history") == 2
    with whole_run.servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT status, count(*) FROM finished_orders GROUP BY status ORDER BY status")
        assert cursor.fetchall() == [("confirmed", 10), ("expired", 1)]
        cursor.execute("SELECT count(DISTINCT order_id) FROM transactions")
        assert cursor.fetchall() == [(11,)]
