"""Two locks the kernel keeps, so that no crash can leave one behind.

`DataDirLock` is held by the service: one process per data folder. `Presence` is held by a server
itself: the descriptor is inherited by all of its processes, and the kernel drops the lock when the
last of them has ended. So whether a server of an earlier run still lives is asked of the kernel,
not of a pid file: a pid may have been reused, and after the death of a postmaster its backends may
still be writing.
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
        DataDirInUseError: Another process holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        # The file is never deleted: two processes could then hold locks on two files of that name.
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
        """Write down who holds the folder and where its servers listen, for whoever is refused."""
        holder = {"pid": os.getpid(), "database_url": database_url, "redis_url": redis_url}
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(holder).encode())
        self._file.flush()

    def release(self) -> None:
        """Let go; a second call does nothing."""
        self._file.close()


class Presence:
    """Tells whether any process of a server is alive.

    Args:
        path: The file that is locked.
        name: The server, as people call it.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name

    def claim(self, *, grace_s: float, limit_s: float, ask_to_stop: Callable[[], object]) -> int:
        """Wait until no process of the server lives, then hold its place.

        Args:
            grace_s: How long a server of an earlier run gets to end by itself.
            limit_s: How long to wait in all.
            ask_to_stop: Called when the grace is over, and again while it lasts: a server that is
                just starting cannot be asked yet.

        Returns:
            An open descriptor that holds the lock; the server inherits it, the caller closes its
            own.

        Raises:
            EmbeddedServerError: It still lives after `limit_s`.
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
                _log.warning("%s of an earlier run still runs; waiting for its end", self._name)
                ask_to_stop()
                next_ask_s += ASK_EVERY_S
            if waited_s >= limit_s:
                raise EmbeddedServerError(
                    f"{self._name} of an earlier run has not ended in {limit_s:.0f} s. Its "
                    f"processes are those that have {self._path} open (fuser {self._path}): end "
                    f"them and start again."
                )
            time.sleep(POLL_S)


def listener_pid(socket_path: Path) -> int | None:
    """Return the process that listens on a Unix socket, None when nothing does."""
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
