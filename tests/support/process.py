"""The real service in its own process, as a user starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Self

from tests.support.forks import RunningCommand, start_fork

PROJECT = Path(__file__).resolve().parents[2]

# A developer's environment variables and .env must not affect a test.
_INHERITED = {"PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "SYSTEMROOT"}

NO_DELAYS = {"QUOTE_DELAY_MS": "0", "EXECUTION_DELAY_MS": "0", "QUEUE_RATE_LIMIT": "0"}
"""Settings without simulated delays, so that an order takes only the engine's own time."""


def inherited() -> dict[str, str]:
    """Return the environment variables that a command of the service has without any settings."""
    variables = {name: value for name, value in os.environ.items() if name in _INHERITED}
    return {**variables, "PYTHONPATH": str(PROJECT)}


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
        self._folder = TemporaryDirectory(prefix="oee-run-")
        self._output = Path(self._folder.name) / "output"
        with self._output.open("wb") as output:
            self.process = self._start(command, within, {"PORT": "0", **environment}, output.fileno())
        self.url = ""

    def _start(
        self, command: Sequence[str], within: Sequence[str], environment: Mapping[str, str], output: int
    ) -> RunningCommand:
        return subprocess.Popen(
            [*within, sys.executable, "-m", "service", *command],
            cwd=self._folder.name,
            env={**inherited(), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

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


class ServiceFork(ServiceProcess):
    """The same, but a fork of a process that has imported the service, which saves most of the start."""

    def _start(
        self, command: Sequence[str], within: Sequence[str], environment: Mapping[str, str], output: int
    ) -> RunningCommand:
        if within:
            return super()._start(command, within, environment, output)
        variables = {**inherited(), **environment}
        return start_fork(command, variables, self._folder.name, stdout=output, stderr=output)


def run_command(
    environment: Mapping[str, str], *arguments: str, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m service`` with arguments, in a fork as of ``ServiceFork``, and wait for its end."""
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr, TemporaryDirectory() as folder:
        variables = {**inherited(), **environment}
        process = start_fork(arguments, variables, folder, stdout=stdout.fileno(), stderr=stderr.fileno())
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, code, stdout.read(), stderr.read())
