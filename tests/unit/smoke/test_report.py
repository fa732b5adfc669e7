"""The report: how steps end, and what it shows."""

from collections.abc import Sequence

from service.smoke.report import Result, SmokeReport, StepFailedError, StepSkippedError

SECRET = "key-of-the-url"


async def passes() -> Sequence[str]:
    return [f"asked {SECRET}"]


async def fails() -> Sequence[str]:
    raise StepFailedError("it is confirmed, not expired")


async def skips() -> Sequence[str]:
    raise StepSkippedError("no pool of it is listed")


async def breaks() -> Sequence[str]:
    raise ValueError(f"unexpected {SECRET}")


def make(told: list[str]) -> SmokeReport:
    return SmokeReport(lambda text: text.replace(SECRET, "***"), told.append)


async def test_a_step_ends_in_one_of_three_ways_and_the_next_one_runs() -> None:
    told: list[str] = []
    report = make(told)
    assert await report.run("one", passes)
    assert not await report.run("two", skips)
    report.skip("three", "nothing was bought")
    failed_before = report.failed
    assert not await report.run("four", fails)
    assert not await report.run("five", breaks)
    assert (failed_before, report.failed) == (False, True)
    ends = [Result.PASSED, Result.SKIPPED, Result.SKIPPED, Result.FAILED, Result.FAILED]
    assert [step.result for step in report.steps] == ends
    assert told == ["one: passed", "two: skipped", "three: skipped", "four: FAILED", "five: FAILED"]


async def test_it_says_what_was_seen_and_shows_no_secret() -> None:
    report = make([])
    for name, step in (("one", passes), ("two", skips), ("three", fails), ("four", breaks)):
        await report.run(name, step)
    text = report.as_markdown({"Cluster": f"of {SECRET}"})
    assert SECRET not in text
    assert text.splitlines()[:5] == [
        "# Smoke test",
        "",
        "- Cluster: of ***",
        "- Steps: 1 passed, 2 FAILED, 1 skipped",
        "",
    ]
    assert "| three | FAILED |" in text
    for line in (
        "- asked ***",
        "- no pool of it is listed",
        "- it is confirmed, not expired",
        "- ValueError: unexpected ***",
    ):
        assert line in text.splitlines()
