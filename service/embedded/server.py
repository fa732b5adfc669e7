"""The common part of PostgreSQL and Valkey, from the launch to the end of the last process."""

import contextlib
import logging
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from service.embedded import process
from service.embedded.access import ServerUser
from service.embedded.errors import OWN_SERVERS_HINT, EmbeddedServerError
from service.embedded.locks import POLL_S, Presence, listener_pid
from service.embedded.logs import ServerLog
from service.embedded.sockets import socket_folder

_log = logging.getLogger(__name__)

STOP_LIMIT_S = 30.0  # a shutdown writes all of shared_buffers to a possibly slow disk
PREDECESSOR_LIMIT_S = 60.0
PREDECESSOR_GRACE_S = 3.0  # the kernel has already signalled it to stop
NOTE_EVERY_S = 5.0


class Server(ABC):
    """One server.

    Args:
        data_dir: The service's data folder; the server's own is in it.
        user: The user that the server runs as; None for this process's.

    Attributes:
        folder: The server's data folder.
        socket: The path of its Unix socket.
        log: Its log file.
    """

    name: ClassVar[str]
    """Its name in messages."""
    folder_name: ClassVar[str]
    socket_name: ClassVar[str]
    stop_signals: ClassVar[tuple[signal.Signals, ...]]
    """The signals that stop it, in order of urgency."""

    def __init__(self, data_dir: Path, user: ServerUser | None) -> None:
        self.user = user
        self.folder = data_dir / self.folder_name
        self.log = ServerLog(data_dir / f"{self.folder_name}.log")
        self.socket = socket_folder(self.folder, self.socket_name, user) / self.socket_name
        self._presence = Presence(data_dir / f"{self.folder_name}.alive", self.name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients."""

    @abstractmethod
    def _spawn(self, presence: int) -> subprocess.Popen[bytes]:
        """Prepare the data folder and start the program in it.

        Args:
            presence: A descriptor that every program started here must inherit.
        """

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether the launched program accepts clients."""

    @property
    def pid(self) -> int | None:
        """The program's process id, also after its end; None before the launch and after a stop."""
        return self._process.pid if self._process else None

    def launch(self, *, predecessor_limit_s: float = PREDECESSOR_LIMIT_S) -> None:
        """Start the program without waiting until it is ready.

        First it waits for a server of an earlier run whose service was killed. On Linux that server is
        shutting down by itself. On macOS, which has no parent death signal, it is still running and is shut
        down here rather than reused, so that every server is started in the same way.

        Raises:
            EmbeddedServerError: It cannot be started, or an earlier one does not end.
        """
        presence = self._presence.claim(
            grace_s=PREDECESSOR_GRACE_S if process.DEATH_SIGNAL else 0.0,
            limit_s=predecessor_limit_s,
            ask_to_stop=self._ask_predecessor_to_stop,
        )
        try:
            self._remove_sockets()
            self._process = self._spawn(presence)
        finally:
            os.close(presence)

    def wait_ready(self, limit_s: float) -> bool:
        """Wait until it is ready.

        Returns:
            False if it is alive but not ready after `limit_s`, as in a long recovery.

        Raises:
            EmbeddedServerError: It has ended instead.
        """
        started = time.monotonic()
        next_note_s = NOTE_EVERY_S
        while not self.is_ready():
            if ended := self.exit_report():
                raise EmbeddedServerError(f"{ended}\n{OWN_SERVERS_HINT}")
            waited_s = time.monotonic() - started
            if waited_s >= limit_s:
                return False
            if waited_s >= next_note_s:
                next_note_s += NOTE_EVERY_S
                _log.warning(
                    "%s is not ready after %.0f s: it may be recovering from a crash, see %s",
                    self.name,
                    waited_s,
                    self.log.path,
                )
            time.sleep(POLL_S)
        return True

    def exit_report(self) -> str | None:
        """Return how the server ended and the end of its log; None if it is running or was stopped."""
        if self._process is None or self._process.poll() is None:
            return None
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.strsignal(-code)}"
        return (
            f"{self.name} (process {self._process.pid}) ended by {how}. "
            f"The end of {self.log.path}:\n{self.log.tail()}"
        )

    def ask_to_stop(self) -> None:
        """Signal it to stop, without waiting."""
        if self._process is not None:
            self._process.send_signal(self.stop_signals[0])

    def await_stop(self) -> None:
        """Wait until all its processes have ended, and remove its socket.

        Every launched server must be stopped by this, after `ask_to_stop`. A second call does nothing.
        """
        if self._process is not None:
            process.end(self._process, *self.stop_signals[1:], wait_s=STOP_LIMIT_S)
            self._process = None
            self._await_children()
            self._remove_sockets()
        if self.socket.parent != self.folder:
            with contextlib.suppress(OSError):  # a server of an earlier run may still listen there
                self.socket.parent.rmdir()

    def _await_children(self) -> None:
        # A server stops its own children. If it was killed, they detect that themselves after a moment.
        try:
            os.close(self._presence.claim(grace_s=1.0, limit_s=process.KILL_WAIT_S, ask_to_stop=lambda: None))
        except EmbeddedServerError as error:
            _log.warning("%s", error)

    def _ask_predecessor_to_stop(self) -> None:
        # A listener on this socket is this server: other users cannot enter its folder.
        pid = listener_pid(self.socket)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, self.stop_signals[0])

    def _remove_sockets(self) -> None:
        # PostgreSQL's lock file beside its socket contains a pid too, which may belong to another process by
        # now.
        for path in (self.socket, self.socket.with_name(f"{self.socket.name}.lock")):
            path.unlink(missing_ok=True)
