"""PostgreSQL: its initialisation, settings and readiness."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg2

from service.embedded.access import hand_over, passage, postgres_user
from service.embedded.binaries import postgres_folder, postgres_major
from service.embedded.errors import OWN_SERVERS_HINT, EmbeddedServerError
from service.embedded.process import end, spawn
from service.embedded.server import Server

_log = logging.getLogger(__name__)

DATABASE = "engine"
INITDB_LIMIT_S = 300.0

# Unicode encoding and code point collation on every system. The C library's locale is C: not every system
# has C.UTF-8, and PostgreSQL's built-in provider, which is used, does not depend on it.
INITDB_OPTIONS = (
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"),
    # Everyone who can reach the socket has access; only the server's user can enter its folder.
    *("--auth=trust", "--username=postgres", "--no-instructions"),
)

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_parallel_workers_per_gather": "0",  # all queries here are short
    # Four processes fewer: the working set is in memory, and there are no subscriptions.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "jit": "off",
    # Committed data must survive every crash, or an order could be executed twice.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    # A client that hangs within a transaction keeps its row locks, and SKIP LOCKED would skip those orders.
    "idle_in_transaction_session_timeout": "30s",
    "autovacuum_max_workers": "2",
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",  # standard error is the log file
    "log_line_prefix": "%m [%p] ",
    "log_min_duration_statement": "1s",
    "cluster_name": "order-engine",
}


class PostgresServer(Server):
    """A PostgreSQL server on `data_dir/postgres`, with an empty database `engine`.

    Args:
        data_dir: The service's data folder.
    """

    name: ClassVar[str] = "PostgreSQL"
    folder_name: ClassVar[str] = "postgres"
    socket_name: ClassVar[str] = ".s.PGSQL.5432"
    # "Fast": rolls back transactions and writes everything. Then "immediate": the next start recovers.
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGINT, signal.SIGQUIT)

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, postgres_user(data_dir / self.folder_name))

    @property
    def url(self) -> str:
        """The URL for psycopg2."""
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        # The port is part of the socket's name; it is explicit so that PGPORT cannot change it.
        host = quote(str(self.socket.parent), safe="")
        return f"postgresql:///{database}?host={host}&port=5432&user=postgres"

    def is_ready(self) -> bool:
        """Return whether it is ready, by the postmaster's status file."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def ensure_database(self) -> None:
        """Create the database if it does not exist.

        Raises:
            EmbeddedServerError: The database cannot be reached or created.
        """
        try:
            with contextlib.closing(psycopg2.connect(self._url("postgres"))) as connection:
                connection.autocommit = True  # CREATE DATABASE cannot run within a transaction
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.fetchone() is None:
                        cursor.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg2.Error as error:
            raise EmbeddedServerError(
                f"PostgreSQL is running, but its database cannot be reached: {error}"
            ) from error

    @property
    def _pid_file(self) -> Path:
        return self.folder / "postmaster.pid"

    def _spawn(self, presence: int) -> subprocess.Popen[bytes]:
        if not (self.folder / "PG_VERSION").exists():
            self._initialise(presence)
        self._check_version()
        self._forget_stale_pid()
        # The setting is a list of folders; quoting allows any character.
        place = str(self.socket.parent).replace('"', '""')
        settings = SETTINGS | {"unix_socket_directories": f'"{place}"'}
        with passage(self.folder, self.user) as (folder, opened):
            command = [str(postgres_folder(self.user) / "postgres"), "-D", folder]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            return spawn(
                command,
                log=self.log,
                death_signal=self.stop_signals[0],
                user=self.user,
                inherit=(presence, *opened),
            )

    def _initialise(self, presence: int) -> None:
        """Create the data folder atomically: it gets its name once it is synced to disk.

        It may replace an empty folder only.
        """
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        if fresh.exists():
            _log.info("removing %s, left incomplete by an interrupted start", fresh)
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        if self.user is not None:
            hand_over(fresh, self.user)
        with passage(fresh, self.user) as (folder, opened):
            initdb = spawn(
                [str(postgres_folder(self.user) / "initdb"), "-D", folder, *INITDB_OPTIONS],
                log=self.log,
                death_signal=signal.SIGINT,
                user=self.user,
                inherit=(presence, *opened),
            )
            end(initdb, signal.SIGINT, wait_s=INITDB_LIMIT_S)
        if initdb.returncode != 0:
            raise EmbeddedServerError(
                f"PostgreSQL's data could not be initialised. The end of {self.log.path}:\n"
                f"{self.log.tail()}\n{OWN_SERVERS_HINT}"
            )
        fresh.rename(self.folder)
        parent = os.open(self.folder.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _check_version(self) -> None:
        found = (self.folder / "PG_VERSION").read_text().strip()
        if found != postgres_major():
            raise EmbeddedServerError(
                f"{self.folder} contains data of PostgreSQL {found}, but the installed version is "
                f"{postgres_major()}. Dump it with the version of this service that created it, and "
                f"restore it into a new DATA_DIR, or use pg_upgrade. {OWN_SERVERS_HINT}"
            )

    def _forget_stale_pid(self) -> None:
        """Remove a pid file whose pid now belongs to another program.

        PostgreSQL itself handles a pid without a process, with more checks than are possible here. But if the
        pid exists, it assumes a running server and does not start.
        """
        try:
            pid = int(self._pid_file.read_text().split()[0])
            os.kill(pid, 0)
        except PermissionError:
            pass  # it is alive, under another user
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return
        if self._is_postmaster(pid):
            raise EmbeddedServerError(
                f"A PostgreSQL server that this service did not start, process {pid}, is using "
                f"{self.folder}. Stop it (pg_ctl stop), and start the service again."
            )
        _log.info("removing %s: process %d is now another program", self._pid_file, pid)
        self._pid_file.unlink()

    def _is_postmaster(self, pid: int) -> bool:
        if sys.platform == "linux":
            try:  # a postmaster's working directory is its data folder
                return Path(f"/proc/{pid}/cwd").samefile(self.folder)
            except OSError:
                return False
        else:
            command = ["/bin/ps", "-o", "comm=", "-p", str(pid)]
            listing = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            return "postgres" in listing.stdout
