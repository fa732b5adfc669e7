"""The fault tests' report: one table at the end of a run.

Tests run in several processes. A test's rows are part of its pytest report, which the main process prints.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

_HEAD = ("fault", "events", "orders", "lost", "twice", "illegal", "slowest recovery", "note")


@dataclass
class Row:
    """One test's line; ``events`` counts the injected faults, the other columns their effects."""

    fault: str
    events: int
    orders: int = 0
    lost: int = 0
    twice: int = 0
    illegal: int = 0
    slowest_recovery_s: float | None = None
    note: str = ""


_PROPERTY = "fault"

_added: list[Row] = []
"""Rows of the current test in this process."""

_rows: list[Row] = []
"""Rows of all reported tests of all processes."""


def add(row: Row) -> None:
    """Add a line to the table. Call it from the test itself."""
    _added.append(row)


def table() -> str:
    """Return the lines added so far, as Markdown with its columns aligned; empty without any."""
    if not _rows:
        return ""
    cells = [_HEAD, *(_cells(row) for row in _rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = [_line([text.ljust(width) for text, width in zip(line, widths, strict=True)]) for line in cells]
    return "\n".join([lines[0], _line(["-" * width for width in widths]), *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    recovery = "" if row.slowest_recovery_s is None else f"{row.slowest_recovery_s:.1f} s"
    counts = (row.events, row.orders, row.lost, row.twice, row.illegal)
    return (row.fault, *(f"{count:,}" for count in counts), recovery, row.note)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Attach the rows of a test to the report of its call."""
    if call.when == "call":
        item.user_properties += [(_PROPERTY, asdict(row)) for row in _added]
        _added.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the rows of a test that has been run."""
    if report.when == "call":
        _rows.extend(
            Row(**value)
            for name, value in report.user_properties
            if name == _PROPERTY and isinstance(value, dict)
        )


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the table at the end of a run."""
    if _rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(table())
