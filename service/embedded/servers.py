"""Starts the requested servers in a data folder, and controls them."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from service.embedded.errors import OWN_SERVERS_HINT, EmbeddedServerError
from service.embedded.locks import DataDirLock
from service.embedded.postgres import PostgresServer
from service.embedded.server import Server
from service.embedded.valkey import ValkeyServer

_log = logging.getLogger(__name__)

START_LIMIT_S = 600.0  # a recovery replays at most max_wal_size, 1 GB, possibly on a slow disk
RESTART_LIMIT_S = 2.0
RESTART_PREDECESSOR_LIMIT_S = 1.0


class EmbeddedServers:
    """The servers that this process started in one data folder.

    Created by `start`. All methods are synchronous and must be called from the main thread.

    Attributes:
        database_url: The URL for psycopg2, over a Unix socket; None if PostgreSQL was not requested.
        redis_url: The URL for redis-py, over a Unix socket; None if Valkey was not requested.
    """

    def __init__(
        self, lock: DataDirLock, postgres: PostgresServer | None, valkey: ValkeyServer | None
    ) -> None:
        self.database_url = postgres.url if postgres else None
        self.redis_url = valkey.url if valkey else None
        self._lock = lock
        self._servers: list[Server] = [server for server in (postgres, valkey) if server]

    def died(self) -> str | None:
        """Return which servers have ended unexpectedly; None while all are running.

        The text says how each ended, with the end of its log. It takes microseconds. Call it about once a
        second, since it also limits the size of the logs.
        """
        reports = []
        for server in self._servers:
            server.log.trim()
            if report := server.exit_report():
                reports.append(report)
        return "\n".join(reports) or None

    def restart_dead(self) -> None:
        """Restart each server that has ended, on the same data and at the same URL.

        Blocks the event loop for about 0.1 s per server and at most 3 s (7 s for a Valkey that cannot read
        its data). A server that is still recovering after that continues, and rejects clients meanwhile.

        Raises:
            EmbeddedServerError: One could not be started. Retry after a pause.
            RuntimeError: Called outside the main thread.
        """
        failures = []
        for server in self._servers:
            if server.exit_report():
                try:
                    _start_again(server)
                except (EmbeddedServerError, OSError) as error:  # the others are still restarted
                    failures.append(f"{server.name} could not be restarted: {error}")
        if failures:
            raise EmbeddedServerError("\n".join(failures))

    def stop(self) -> None:
        """Stop all servers, wait until they have ended, and release the data folder.

        A second call does nothing.
        """
        # All are signalled first, so that they stop concurrently. One that cannot be stopped must not keep
        # the others running.
        for server in self._servers:
            server.ask_to_stop()
        with contextlib.ExitStack() as rest:
            rest.callback(self._lock.release)
            for server in self._servers:
                rest.callback(server.await_stop)


def start(data_dir: Path, *, postgres: bool, redis: bool) -> EmbeddedServers:
    """Start PostgreSQL, Valkey or both in a data folder, and wait until they are ready.

    They listen on Unix sockets only, and end with this process, however it ends.

    Args:
        data_dir: The folder for data, logs and sockets; created if missing. The permissions of its parent
            folders are not changed.
        postgres: Whether to start PostgreSQL.
        redis: Whether to start Valkey.

    Returns:
        The servers. The caller must stop them after its event loop has ended.

    Raises:
        DataDirInUseError: Another process uses the data folder.
        EmbeddedServerError: A server could not be started; none is left running.
        RuntimeError: Called outside the main thread; the servers end with the thread that starts them.
    """
    if sys.platform not in {"linux", "darwin"}:
        raise EmbeddedServerError(
            f"Embedded servers are available for Linux and macOS, not for {sys.platform}. {OWN_SERVERS_HINT}"
        )
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embedded servers must be started from the main thread")
    began = time.monotonic()
    with _explained(data_dir):
        folder = data_dir.expanduser().resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        servers = _start_locked(DataDirLock(folder), folder, postgres=postgres, redis=redis)
    _log.info("embedded servers are ready in %s after %.2f s", folder, time.monotonic() - began)
    return servers


@contextlib.contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded servers could not be started in DATA_DIR {data_dir}: {error}. {OWN_SERVERS_HINT}"
        ) from error


def _start_locked(lock: DataDirLock, data_dir: Path, *, postgres: bool, redis: bool) -> EmbeddedServers:
    with contextlib.ExitStack() as undo:
        undo.callback(lock.release)
        postgres_server = PostgresServer(data_dir) if postgres else None
        valkey_server = ValkeyServer(data_dir, None) if redis else None
        servers = EmbeddedServers(lock, postgres_server, valkey_server)
        undo.callback(servers.stop)
        wanted: list[Server] = [server for server in (postgres_server, valkey_server) if server]
        for server in wanted:
            server.launch()
        for server in wanted:
            if not server.wait_ready(START_LIMIT_S):
                raise EmbeddedServerError(
                    f"{server.name} is not ready after {START_LIMIT_S:.0f} s, see {server.log.path}"
                )
        if postgres_server:
            postgres_server.ensure_database()
        lock.note(servers.database_url, servers.redis_url)
        undo.pop_all()
    return servers


def _start_again(server: Server) -> None:
    began = time.monotonic()
    server.launch(predecessor_limit_s=RESTART_PREDECESSOR_LIMIT_S)
    state = "ready" if server.wait_ready(RESTART_LIMIT_S) else "still recovering"
    _log.warning("restarted %s: %s after %.2f s", server.name, state, time.monotonic() - began)
