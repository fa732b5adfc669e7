"""A recurring fault is logged once a second."""

import logging

from service.logs import OneLineASecond
from tests.support.clock import ManualClock


def record(fault: str | None) -> logging.LogRecord:
    line = logging.LogRecord("service", logging.WARNING, "", 0, "away", None, None)
    if fault is not None:
        line.fault = fault
    return line


async def test_each_fault_logs_one_line_a_second() -> None:
    clock = ManualClock()
    lines = OneLineASecond(clock)
    assert [lines.filter(record("redis")) for _ in range(3)] == [True, False, False]
    assert lines.filter(record("postgresql"))
    await clock.advance(1.0)
    again = record("redis")
    assert lines.filter(again)
    assert again.getMessage() == "away (and 2 similar lines)"


def test_other_lines_are_all_logged() -> None:
    lines = OneLineASecond(ManualClock())
    assert all(lines.filter(record(None)) for _ in range(5))
