"""PostgreSQL: its initialisation, what it is told at its start, how it shows that it serves."""

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

# The encoding and the collation are those of Unicode code points wherever it runs. The C library's
# part is C: not every system has its C.UTF-8, and PostgreSQL's own, which is what applies, needs
# nothing from it.
INITDB_OPTIONS = (
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"),
    # Whoever can reach the socket is let in; its folder is closed to all but the server's user.
    *("--auth=trust", "--username=postgres", "--no-instructions"),
)

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_parallel_workers_per_gather": "0",  # every query here is a short one
    # Four processes fewer: the working set is in memory, and nothing subscribes.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "jit": "off",
    # An order must not be executed twice: what was committed stays committed, whatever falls over.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    # A client that is stopped within a transaction keeps its row locks, and SKIP LOCKED passes over
    # those orders.
    "idle_in_transaction_session_timeout": "30s",
    "autovacuum_max_workers": "2",
    "autovacuum_naptime": "15s",
    "autovacuum_vacuum_scale_factor": "0.1",
    "autovacuum_analyze_scale_factor": "0.05",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",  # standard error, which is our log
    "log_line_prefix": "%m [%p] ",
    "log_min_duration_statement": "1s",
    "cluster_name": "order-engine",
}


class PostgresServer(Server):
    """A PostgreSQL server on `data_dir/postgres`, with an empty database `engine`.

    Args:
        data_dir: The folder of the whole service.
    """

    name: ClassVar[str] = "PostgreSQL"
    folder_name: ClassVar[str] = "postgres"
    socket_name: ClassVar[str] = ".s.PGSQL.5432"
    # "Fast": transactions are rolled back, then all is written. And "immediate": the next start
    # recovers.
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGINT, signal.SIGQUIT)

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, postgres_user(data_dir / self.folder_name))

    @property
    def url(self) -> str:
        """Where psycopg2 connects."""
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        # The port is part of the socket's name, and said here so that PGPORT cannot change it.
        host = quote(str(self.socket.parent), safe="")
        return f"postgresql:///{database}?host={host}&port=5432&user=postgres"

    def is_ready(self) -> bool:
        """Say whether it serves, by the file in which a postmaster tells its state."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def ensure_database(self) -> None:
        """Create the database if there is none yet.

        Raises:
            EmbeddedServerError: The server refuses.
        """
        try:
            with contextlib.closing(psycopg2.connect(self._url("postgres"))) as connection:
                connection.autocommit = True  # a database cannot be made within a transaction
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.fetchone() is None:
                        cursor.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg2.Error as error:
            raise EmbeddedServerError(
                f"PostgreSQL runs, but its database cannot be reached: {error}"
            ) from error

    @property
    def _pid_file(self) -> Path:
        return self.folder / "postmaster.pid"

    def _spawn(self, presence: int) -> subprocess.Popen[bytes]:
        if not (self.folder / "PG_VERSION").exists():
            self._initialise(presence)
        self._check_version()
        self._forget_stale_pid()
        # The setting is a list of folders: quoted, a name may hold any character.
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
        """Make the data folder, whole or not at all: it bears its name once it is on the disk.

        It may take the place of an empty folder, but of no other.
        """
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        if fresh.exists():
            _log.info("removing %s, left half made by a start that was interrupted", fresh)
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
                f"{self.folder} holds data of PostgreSQL {found}, and the installed one is "
                f"{postgres_major()}. Dump it with the version of this service that made it, and "
                f"restore it into a new DATA_DIR, or use pg_upgrade. {OWN_SERVERS_HINT}"
            )

    def _forget_stale_pid(self) -> None:
        """Remove a pid file whose pid is by now that of another program.

        PostgreSQL itself sees to a pid that nobody bears, with more checks than could be made here;
        but if anybody bears it, it takes that process for a running server and does not start.
        """
        try:
            pid = int(self._pid_file.read_text().split()[0])
            os.kill(pid, 0)
        except PermissionError:
            pass  # it lives, as another user
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return
        if self._is_postmaster(pid):
            raise EmbeddedServerError(
                f"A PostgreSQL server that this service did not start, process {pid}, runs on "
                f"{self.folder}. Stop it (pg_ctl stop), and start again."
            )
        _log.info("removing %s: process %d is another program by now", self._pid_file, pid)
        self._pid_file.unlink()

    def _is_postmaster(self, pid: int) -> bool:
        if sys.platform == "linux":
            try:  # a postmaster works in its data folder
                return Path(f"/proc/{pid}/cwd").samefile(self.folder)
            except OSError:
                return False
        else:
            command = ["/bin/ps", "-o", "comm=", "-p", str(pid)]
            listing = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            return "postgres" in listing.stdout
