"""Commands of the service as forks of a process that has imported it: most of a start are the imports.

A fork runs what ``python -m service`` runs after its imports, in a process of its own, with its own
environment, folder and output. Tests of the start itself use a new interpreter.
"""

import atexit
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol


class RunningCommand(Protocol):
    """A running command: what the tests use of ``subprocess.Popen``."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Return the exit code, or None while it is running."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...

    def kill(self) -> None:
        """Send it SIGKILL."""
        ...


class Fork:
    """A fork of the process that has imported the service."""

    def __init__(self, pid: int, arguments: Sequence[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._arguments = arguments
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        """Record its exit code."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """Return the exit code, or None while it is running."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            # It may have ended, and the report of that is on its way.
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """Starts forks, all of one process.

    Args:
        environment: The environment of that process, in which the service is imported.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair()
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_parent"],
            env=dict(environment),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._started: queue.Queue[Fork] = queue.Queue()
        self._arguments: Sequence[str] = ()
        threading.Thread(target=self._listen, name="forks", daemon=True).start()
        atexit.register(self._close)

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: str, stdout: int, stderr: int
    ) -> Fork:
        """Start a command, one at a time; see ``start_fork``."""
        request = {"environment": dict(environment), "folder": folder, "arguments": list(arguments)}
        self._arguments = arguments
        socket.send_fds(self._control, [json.dumps(request).encode()], [stdout, stderr])
        return self._started.get(timeout=60)

    def _listen(self) -> None:
        """Receive what the forking process reports: started forks, and the exit codes of ended ones."""
        running: dict[int, Fork] = {}
        with self._control.makefile("r") as reports:
            for line in reports:
                report = json.loads(line)
                if "code" in report:
                    running.pop(report["pid"]).end(report["code"])
                else:
                    fork = running[report["pid"]] = Fork(report["pid"], self._arguments)
                    self._started.put(fork)

    def _close(self) -> None:
        """End the forking process, which ends what it has started."""
        self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        self._parent.wait(10)


_starting = threading.Lock()
_forks: Forks | None = None


def start_fork(
    arguments: Sequence[str], environment: Mapping[str, str], folder: str, *, stdout: int, stderr: int
) -> RunningCommand:
    """Start a command; only on Linux as a fork.

    Args:
        arguments: The command and its arguments.
        environment: All its environment variables, with the path of the project's modules.
        folder: Its working directory.
        stdout: The file descriptor of its output.
        stderr: That of its errors.
    """
    if sys.platform != "linux":
        return subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            env=dict(environment),
            cwd=folder,
            stdout=stdout,
            stderr=stderr,
        )
    global _forks  # noqa: PLW0603 - one for the whole run
    with _starting:
        if _forks is None:
            _forks = Forks(environment)
        return _forks.start(arguments, environment, folder, stdout, stderr)
