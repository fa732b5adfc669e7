"""Commands of the service in processes of their own, as a user starts them."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.clock import Clock
from service.smoke.report import StepFailedError

_LOOK_EVERY_S = 0.05
_START_S = 90.0
_STOP_S = 30.0
_ADDRESS = "Listening on "
_LAST_LINES = 3


class CommandProcess:
    """``python -m service COMMAND``, with its output in a file.

    Args:
        command: The command and its arguments.
        environment: All its variables.
        output: The file.
        clock: Times the waits.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: Path, clock: Clock
    ) -> None:
        self._name = command[0]
        self._output = output
        self._clock = clock
        with output.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-m", "service", *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._output.read_text(errors="replace")

    @property
    def code(self) -> int | None:
        """Its exit code, the number of the signal that ended it as a negative one; None while it runs."""
        return self._process.poll()

    @property
    def was_killed(self) -> bool:
        """Whether it has ended as by ``kill -9``."""
        return self.code == -signal.SIGKILL

    async def address(self) -> str:
        """Wait until it says where it listens, and return the URL.

        Raises:
            StepFailedError: It ended, or did not say so in time.
        """
        give_up = self._clock.monotonic() + _START_S
        while True:
            lines = self.output.splitlines()
            # The greeting ends with an example: until then it is not complete.
            if "Try:" in lines:
                return next(line for line in lines if line.startswith(_ADDRESS)).removeprefix(_ADDRESS)
            if self.code is not None:
                raise StepFailedError(f"{self._name} ended with {self.code}: {self.last_lines()}")
            if self._clock.monotonic() > give_up:
                raise StepFailedError(f"{self._name} was not ready within {_START_S:.0f} s")
            await self._clock.sleep(_LOOK_EVERY_S)

    async def ended(self, patience_s: float) -> int | None:
        """Wait until it has ended, and return its exit code; None: it has not in that time."""
        give_up = self._clock.monotonic() + patience_s
        while self.code is None and self._clock.monotonic() < give_up:
            await self._clock.sleep(_LOOK_EVERY_S)
        return self.code

    def last_lines(self) -> str:
        """Return the end of what it has written, in one line."""
        return " / ".join(self.output.splitlines()[-_LAST_LINES:]) or "it wrote nothing"

    async def stop(self) -> None:
        """Stop it as Ctrl-C does, and kill it if that takes too long."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await self.ended(_STOP_S)
            finally:
                self.kill()

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        if self.code is None:
            self._process.kill()
        self._process.wait()
