"""Two kernel locks, which no crash can leave behind.

The service holds `DataDirLock`: one process per data folder. A server itself holds `Presence`: all of its
processes inherit the descriptor, and the kernel releases the lock when the last of them has ended. So the
kernel, not a pid file, tells whether a server of an earlier run is alive: a pid may have been reused, and
after the death of a postmaster its backends may still be writing.
"""

import json
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from service.embedded.errors import DataDirInUseError, EmbeddedServerError

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger(__name__)

POLL_S = 0.005
ASK_EVERY_S = 5.0
SOL_LOCAL, LOCAL_PEERPID = 0, 2  # macOS's <sys/un.h>; the socket module does not name them


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class DataDirLock:
    """One process per data folder.

    Args:
        data_dir: The folder, which must exist.

    Raises:
        DataDirInUseError: Another process holds the lock.
    """

    def __init__(self, data_dir: Path) -> None:
        # The file is never deleted; otherwise two processes could lock two different files of that name.
        path = data_dir / "lock"
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
        if not _try_lock(self._file.fileno()):
            with self._file:
                raise self._refusal(data_dir, self._file.read())
        self.note(None, None)

    @staticmethod
    def _refusal(data_dir: Path, note: bytes) -> DataDirInUseError:
        try:
            holder = json.loads(note)
        except ValueError:  # read while the holder was writing it
            holder = {}
        return DataDirInUseError(
            data_dir,
            pid=holder.get("pid"),
            database_url=holder.get("database_url"),
            redis_url=holder.get("redis_url"),
        )

    def note(self, database_url: str | None, redis_url: str | None) -> None:
        """Record this process and its servers' URLs, for the error message of other processes."""
        holder = {"pid": os.getpid(), "database_url": database_url, "redis_url": redis_url}
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(holder).encode())
        self._file.flush()

    def release(self) -> None:
        """Release the lock; a second call does nothing."""
        self._file.close()


class Presence:
    """Detects whether any process of a server is alive.

    Args:
        path: The lock file.
        name: The server's name in messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def claim(self, *, grace_s: float, limit_s: float, ask_to_stop: Callable[[], object]) -> int:
        """Wait until no process of the server is alive, then take the lock.

        Args:
            grace_s: How long a server of an earlier run gets to end by itself.
            limit_s: How long to wait in total.
            ask_to_stop: Called after the grace period, and repeatedly while the server is alive: one that
                is just starting cannot be stopped yet.

        Returns:
            An open descriptor that holds the lock; the server inherits it, and the caller closes its copy.

        Raises:
            EmbeddedServerError: It is still alive after `limit_s`.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait(descriptor, grace_s, limit_s, ask_to_stop)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _wait(
        self, descriptor: int, grace_s: float, limit_s: float, ask_to_stop: Callable[[], object]
    ) -> None:
        started = time.monotonic()
        next_ask_s = grace_s
        while not _try_lock(descriptor):
            waited_s = time.monotonic() - started
            if waited_s >= next_ask_s:
                _log.warning("%s of an earlier run is still running; waiting for it to end", self._name)
                ask_to_stop()
                next_ask_s += ASK_EVERY_S
            if waited_s >= limit_s:
                raise EmbeddedServerError(
                    f"{self._name} of an earlier run has not ended in {limit_s:.0f} s. Stop its "
                    f"processes, which have {self._path} open (fuser {self._path}), and start the "
                    f"service again."
                )
            time.sleep(POLL_S)


def listener_pid(socket_path: Path) -> int | None:
    """Return the process that listens on a Unix socket; None if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(socket_path))
            if sys.platform == "darwin":
                return int(connection.getsockopt(SOL_LOCAL, LOCAL_PEERPID))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    pid: int = struct.unpack("3i", credentials)[0]
    return pid
