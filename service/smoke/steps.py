"""The smoke test from the first step to the report: whether all of it works on a cluster."""

import argparse
import asyncio
import contextlib
import importlib.metadata
import shutil
import sys
from collections.abc import Mapping
from decimal import Decimal
from functools import partial

from service import logs
from service.clock import Clock
from service.domain.timestamps import format_epoch
from service.parts import Servers
from service.smoke.options import SmokeOptions, load_settings, read_options
from service.smoke.recovery import break_and_recover
from service.smoke.report import SmokeReport
from service.smoke.rig import Rig
from service.smoke.trading import SwapsDone, trade
from service.stop_signals import SIGNALS, StopSignal

_AUDIT = ("audit", "--chain")
_REPORT = "report.md"
_LOG = "smoke.log"
_DATABASES = ("postgres", "valkey")


class SmokeTest:
    """One smoke test: a folder of its own, and the steps.

    Attributes:
        settings: Those of the servers that it needs.

    Args:
        arguments: The command's.

    Raises:
        InvalidSettingError: A setting has an invalid value.
        SmokeError: It cannot begin.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._clock = Clock()
        self._options: SmokeOptions = read_options(arguments)
        self.settings, self._folder = load_settings(self._options, self._clock)
        logs.to_file(self.settings.log_level, self._clock, self._folder / _LOG)

    async def run(self, servers: Servers) -> bool:
        """Run all steps, print the report, and return whether none failed.

        Raises:
            StopSignal: A stop signal arrived.
        """
        task = asyncio.ensure_future(self._run(servers))
        received: list[int] = []

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            return await task
        except asyncio.CancelledError:
            raise StopSignal(received[0]) from None

    async def _run(self, servers: Servers) -> bool:
        rig = Rig(self._options, self.settings, servers, self._folder, self._clock)
        report = SmokeReport(rig.redact, _tell)
        began = self._clock.time_ms()
        done = SwapsDone()
        try:
            if await report.run("Endpoints", rig.open):
                done = await trade(rig, report)
                await break_and_recover(rig, report, done)
                await report.run("Audit", partial(rig.run_command, *_AUDIT))
        finally:
            await rig.close()
        text = report.as_markdown(self._facts(rig, done, began))
        (self._folder / _REPORT).write_text(text + "\n")
        print(text, flush=True)
        _tell(f"This report, and what the processes have written: {self._folder}")
        return not report.failed

    def _facts(self, rig: Rig, done: SwapsDone, began_ms: int) -> Mapping[str, str]:
        seconds = (self._clock.time_ms() - began_ms) / 1000
        return {
            "Cluster": self._options.cluster,
            "Amount of each swap": f"{self._options.amount} SOL",
            "Version": _version(),
            "Began": f"{format_epoch(began_ms / 1000)}, took {seconds:.0f} s",
            "What the wallet gained and lost": _changes(rig),
            "Of that for the network, fees and rent": f"{done.costs:f} SOL",
        }

    def clean_up(self) -> None:
        """Remove the databases of a test that passed, once their servers have stopped."""
        for name in _DATABASES:
            shutil.rmtree(self._folder / name, ignore_errors=True)


def _changes(rig: Rig) -> str:
    if rig.first is None or rig.last is None:
        return "not known"
    changes = {
        token: rig.last.get(token, Decimal()) - rig.first.get(token, Decimal())
        for token in sorted({*rig.first, *rig.last})
    }
    return ", ".join(f"{change:+f} {token}" for token, change in changes.items() if change) or "nothing"


def _version() -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("order-execution-engine")
    return "not installed as a package"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
