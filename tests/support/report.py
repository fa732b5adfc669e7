"""What the fault tests did and found: one table at the end of a run."""

from dataclasses import dataclass

from _pytest.terminal import TerminalReporter

_HEAD = ("fault", "events", "orders", "lost", "twice", "illegal", "slowest recovery", "note")


@dataclass
class Row:
    """One test's line; ``events`` counts what was done to the engine, the rest what came of it."""

    fault: str
    events: int
    orders: int = 0
    lost: int = 0
    twice: int = 0
    illegal: int = 0
    slowest_recovery_s: float | None = None
    note: str = ""


_rows: list[Row] = []


def add(row: Row) -> None:
    """Have a line in the table."""
    _rows.append(row)


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


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the table at the end of a run. ``tests/conftest.py`` makes this a hook by importing it."""
    if _rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(table())
