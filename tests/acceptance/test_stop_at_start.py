"""A start can be interrupted at any moment, and a failing start reports the cause in one line.

It runs as the first process of a PID namespace where this machine allows it, as in a container: there a
signal without a handler is lost.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from service.clock import Clock
from service.postgres.database import Database, RefusedError, UnavailableError
from service.postgres.migrations import _LOCK
from tests.support.judge import wait_until
from tests.support.process import PROJECT, ServiceProcess
from tests.support.servers import TestCluster, TestServers

STOPPED = {signal.SIGTERM: 128 + 15, signal.SIGINT: 128 + 2}
AT_ONCE_S = 3.0
HELD_AT_THE_DRIVER = """
import pathlib, sys, time
here = pathlib.Path(__file__).parent
class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == "psycopg2" and not (here / "go").exists():
            (here / "held").touch()
            while not (here / "go").exists():
                time.sleep(0.005)
sys.meta_path.insert(0, Hold())
"""
"""Holds the process that imports PostgreSQL's driver until it may go on."""

WITH_SERVERS_S = 15.0


def _first_process() -> tuple[str, ...] | None:
    """Return the command that runs a program first in a PID namespace; None where that is not allowed."""
    own_user = () if os.geteuid() == 0 else ("--user", "--map-current-user")
    within = ("unshare", *own_user, "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which("unshare") is None:
        return None
    allowed = subprocess.run([*within, "true"], capture_output=True, check=False).returncode == 0
    return within if allowed else None


FIRST_PROCESS = _first_process()


@pytest.fixture
def within() -> tuple[str, ...]:
    """Return the command that runs the service, as the first process of a namespace where that is allowed."""
    return FIRST_PROCESS or ()


def pid_of(service: ServiceProcess, within: tuple[str, ...]) -> int:
    """Return the service's process id in the test's namespace."""
    outer = service.process.pid
    if not within:
        return outer
    children = Path(f"/proc/{outer}/task/{outer}/children")
    wait_until(lambda: bool(children.read_text().split()))
    return int(children.read_text().split()[0])


def hears(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [caught] = [line for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def stop(
    service: ServiceProcess,
    within: tuple[str, ...],
    *,
    within_s: float = AT_ONCE_S,
    number: signal.Signals = signal.SIGTERM,
) -> None:
    """Stop a service that does not serve yet; it must stop without output."""
    os.kill(pid_of(service, within), number)
    assert service.process.wait(within_s) == STOPPED[number], service.output
    for word in ("Traceback", "Unclosed", "UVPoll", "never awaited", "Listening"):
        assert word not in service.output, service.output


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("number", STOPPED)
def test_a_stop_at_the_first_moment(
    within: tuple[str, ...], number: signal.Signals, closed_port: int, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HELD_AT_THE_DRIVER)
    settings = {
        "DATABASE_URL": f"postgresql://127.0.0.1:{closed_port}/engine",
        "REDIS_URL": "redis://127.0.0.1:1",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}",
    }
    with ServiceProcess(settings, within=within) as service:
        pid = pid_of(service, within)
        wait_until((tmp_path / "held").exists)
        # The driver is not even loaded yet. (Python itself has a handler for SIGINT.)
        assert hears(pid, signal.SIGTERM)
        (tmp_path / "go").touch()
        stop(service, within, number=number)


def test_a_stop_while_the_embedded_servers_are_created(within: tuple[str, ...], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ServiceProcess({"DATA_DIR": str(data)}, within=within) as service:
        wait_until((data / "postgres.new").exists)
        stop(service, within, within_s=WITH_SERVERS_S)


def test_a_stop_while_the_embedded_servers_start(within: tuple[str, ...], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ServiceProcess({"DATA_DIR": str(data)}, within=within) as service:
        wait_until((data / "postgres" / "PG_VERSION").exists)
        stop(service, within, within_s=WITH_SERVERS_S)
        assert not (data / "postgres" / "postmaster.pid").exists()


def test_a_stop_while_postgresql_refuses_connections(within: tuple[str, ...], closed_port: int) -> None:
    # Two addresses, which libpq tries one after the other.
    url = f"postgresql://127.0.0.1:{closed_port},localhost:{closed_port}/engine"
    with ServiceProcess({"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"}, within=within) as service:
        wait_until(lambda: service.output.count("waiting for PostgreSQL") >= 2)
        stop(service, within)


def test_a_stop_while_postgresql_does_not_respond(silent_port: int) -> None:
    url = f"postgresql://127.0.0.1:{silent_port}/engine"
    with ServiceProcess({"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"}) as service:
        wait_until(lambda: "waiting for PostgreSQL" in service.output)
        stop(service, ())


@pytest.fixture
def no_name_server(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Return a command under which the only name server never responds."""
    configuration = tmp_path / "resolv.conf"
    configuration.write_text("nameserver 127.0.0.53\noptions timeout:20 attempts:3\n")
    mount = f"mount --bind {configuration} /etc/resolv.conf"
    within = (
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        f'{mount} && exec "$@"',
        "sh",
    )
    if (
        FIRST_PROCESS is None
        or subprocess.run([*within, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no name server can be put in another's place here")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        try:
            silent.bind(("127.0.0.53", 53))
        except OSError:
            pytest.skip("port 53 cannot be had")
        yield within


def test_a_stop_while_no_name_server_responds(no_name_server: tuple[str, ...]) -> None:
    """libpq would resolve names in the event loop, which handles no signal meanwhile."""
    urls = {"DATABASE_URL": "postgresql://db.example/engine", "REDIS_URL": "redis://cache.example"}
    with ServiceProcess(urls, within=no_name_server) as service:
        wait_until(lambda: "waiting for PostgreSQL" in service.output)
        stop(service, no_name_server)


def test_a_stop_while_another_process_migrates(servers: TestServers) -> None:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        cursor.execute("DROP TABLE schema_migrations")
        for command in ("serve", "migrate"):
            with ServiceProcess(servers.environment, (command,)) as service:
                wait_until(lambda: waits_for_a_lock(servers))
                stop(service, ())
                wait_until(lambda: not waits_for_a_lock(servers))


def waits_for_a_lock(servers: TestServers) -> bool:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone() is not None


def ends_with_one_line(environment: dict[str, str], within_s: float = 20) -> str:
    """Return what a start that must fail says; it must be one line after the log's first."""
    began = time.monotonic()
    with ServiceProcess(environment) as service:
        assert service.process.wait(within_s) == 1, service.output
        *log, line = service.output.splitlines()
        assert time.monotonic() - began < within_s
    # An invalid setting stops it before it logs anything.
    assert [each.rpartition(" service: ")[2] for each in log] in ([], ["mode: paper"])
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("name", "url", "says"),
    [
        ("DATABASE_URL", "postgresql://user:s3cr/et@127.0.0.1:1/engine", "percent-encoded"),
        ("DATABASE_URL", "postgresql://user:s3cret@127.0.0.1:1/engine?sslmode=maybe", "sslmode"),
        ("REDIS_URL", "redis://:s3cret@127.0.0.1:1?db=abc", '"db"'),
    ],
)
def test_an_unusable_url_stops_the_start(name: str, url: str, says: str) -> None:
    line = ends_with_one_line({"REDIS_URL": "redis://127.0.0.1:1", name: url})
    assert name in line
    assert says in line
    assert "s3cr" not in line


@pytest.fixture
def strangers(cluster: TestCluster, servers: TestServers) -> Iterator[TestServers]:
    """Return servers with a role that may not log in, one without privileges, and one with a password."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("CREATE ROLE no_login NOLOGIN; CREATE ROLE no_rights LOGIN")
        cursor.execute("CREATE ROLE with_password LOGIN PASSWORD 'right'")
        hba_file = Path(cluster._folder.name) / "postgres" / "pg_hba.conf"
        hba = hba_file.read_text()
        hba_file.write_text(f"local all with_password scram-sha-256\n{hba}")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            yield servers
        finally:
            hba_file.write_text(hba)
            cursor.execute("SELECT pg_reload_conf(); DROP ROLE no_login, no_rights, with_password")


def test_a_permanent_error_stops_the_start(strangers: TestServers) -> None:
    url = strangers.database_url
    wrong_password = url.replace("user=postgres", "user=with_password&password=s3cret")
    # A reload takes effect with the next session, a moment later.
    wait_until(lambda: not lets_in(wrong_password))
    for other, says in (
        (wrong_password, "password authentication failed"),
        (f"{url.replace('user=postgres', 'user=no_rights')}&schema=eng", "permission denied"),
    ):
        line = ends_with_one_line({**strangers.environment, "DATABASE_URL": other})
        assert "DATABASE_URL" in line
        assert says in line
        assert "s3cr" not in line


def test_a_signal_whose_exception_python_drops_stops_without_output() -> None:
    # As if it arrives in a callback of the import system.
    program = """
import os, signal
from service import stop_signals

class Collected:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass

stop_signals.listen()
Collected()
stop_signals.check()
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_in_utf_8_stops_the_start(servers: TestServers, encoding: str) -> None:
    name = f"{servers.database}_{encoding.lower()}"
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            f"CREATE DATABASE {name} ENCODING {encoding} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
        )
        try:
            url = servers.database_url.replace(f"/{servers.database}?", f"/{name}?")
            line = ends_with_one_line({**servers.environment, "DATABASE_URL": url})
        finally:
            cursor.execute(f"DROP DATABASE {name}")
    assert "DATABASE_URL" in line
    assert f"encoding is {encoding}" in line


async def test_permanent_and_transient_start_errors_are_distinguished(
    strangers: TestServers, closed_port: int
) -> None:
    url = strangers.database_url
    for other in (
        url.replace(f"/{strangers.database}?", "/nowhere?"),
        url.replace("user=postgres", "user=nobody_at_all"),
        url.replace("user=postgres", "user=no_login"),
        f"{url}&options=-c%20no_such_setting%3D1",
        f"{url}&sslmode=maybe",
    ):
        with pytest.raises(RefusedError):
            await Database(other, size=1, clock=Clock()).connect()
    with pytest.raises(UnavailableError) as caught:
        await Database(f"postgresql://127.0.0.1:{closed_port}/engine", size=1, clock=Clock()).connect()
    assert not isinstance(caught.value, RefusedError)


def lets_in(url: str) -> bool:
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(url).close()
        return True
    return False
