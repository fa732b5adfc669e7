"""The real service in its own process, as a user starts it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

PROJECT = Path(__file__).resolve().parents[2]

# A developer's environment variables and .env must not affect a test.
_INHERITED = {"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT"}

NO_DELAYS = {"QUOTE_DELAY_MS": "0", "EXECUTION_DELAY_MS": "0", "QUEUE_RATE_LIMIT": "0"}
"""Settings without simulated delays, so that an order takes only the engine's own time."""


class ServiceProcess:
    """``python -m service serve`` with the given settings, on a free port.

    Use it as a context manager: it is killed at the end unless it has stopped before.

    Args:
        environment: Its settings.
        command: The command and its arguments.
        within: A program that runs it, with arguments.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        command: tuple[str, ...] = ("serve",),
        within: tuple[str, ...] = (),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oee-run-")
        self._output = Path(self._folder.name) / "output"
        inherited = {name: value for name, value in os.environ.items() if name in _INHERITED}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-m", "service", *command],
                cwd=self._folder.name,
                env={**inherited, "PORT": "0", "PYTHONPATH": str(PROJECT), **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        self._folder.cleanup()

    @property
    def output(self) -> str:
        """The process's output so far."""
        return self._output.read_text(errors="replace")

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def wait_until_ready(self, timeout_s: float = 60) -> Self:
        """Wait until it reports its address.

        Raises:
            AssertionError: It ended, or did not report in time; with its output.
        """
        deadline = time.monotonic() + timeout_s
        while not self.url:
            for line in self.output.splitlines():
                if line.startswith("Listening on ") and "Try:" in self.output:
                    self.url = line.removeprefix("Listening on ")
            assert self.process.poll() is None, f"the service ended:\n{self.output}"
            assert time.monotonic() < deadline, f"the service is not ready:\n{self.output}"
            time.sleep(0.01)
        return self

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 30) -> int:
        """Stop it with SIGTERM, wait, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def cpu_s(self) -> float:
        """Return the processor time it has used, in seconds (Linux only)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
