"""What a smoke test found: its steps, in sequence, as Markdown to attach to an issue."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

log = logging.getLogger(__name__)


class Result(StrEnum):
    """How a step ended. The values are the report's."""

    PASSED = "passed"
    FAILED = "FAILED"
    SKIPPED = "skipped"


class StepFailedError(Exception):
    """A step did not do what it should; the message says what was seen."""


class StepSkippedError(Exception):
    """A step cannot be done here; the message says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, its end, and what was seen."""

    name: str
    result: Result
    lines: Sequence[str]


class SmokeReport:
    """Runs steps, one after the other, and keeps what they found.

    Args:
        redact: Removes what nobody else may see from a text.
        tell: Shows a line to the user at once: a step and how it ended.
    """

    def __init__(self, redact: Callable[[str], str], tell: Callable[[str], None]) -> None:
        self._redact = redact
        self._tell = tell
        self.steps: list[Step] = []

    @property
    def failed(self) -> bool:
        """Whether a step failed."""
        return any(step.result is Result.FAILED for step in self.steps)

    async def run(self, name: str, step: Callable[[], Awaitable[Sequence[str]]]) -> bool:
        """Run a step, which returns what it saw; return whether it passed."""
        result, lines = Result.PASSED, list[str]()
        try:
            lines += await step()
        except StepSkippedError as reason:
            result, lines = Result.SKIPPED, [str(reason)]
        except StepFailedError as reason:
            result, lines = Result.FAILED, [str(reason)]
        except Exception as error:
            log.exception("%s", name)
            result, lines = Result.FAILED, [f"{type(error).__name__}: {error}"]
        self._add(Step(name, result, lines))
        return result is Result.PASSED

    def skip(self, name: str, reason: str) -> None:
        """Add a step that is not run."""
        self._add(Step(name, Result.SKIPPED, [reason]))

    def _add(self, step: Step) -> None:
        step = Step(step.name, step.result, [self._redact(line) for line in step.lines])
        self.steps.append(step)
        self._tell(f"{step.name}: {step.result}")

    def as_markdown(self, facts: Mapping[str, str]) -> str:
        """Return the report.

        Args:
            facts: What was tested and where, by name.
        """
        counts = {each: sum(step.result is each for step in self.steps) for each in Result}
        lines = ["# Smoke test", ""]
        lines += [f"- {name}: {self._redact(fact)}" for name, fact in facts.items()]
        lines += [f"- Steps: {', '.join(f'{count} {each}' for each, count in counts.items())}", ""]
        lines += ["| Step | Result |", "| --- | --- |"]
        lines += [f"| {step.name} | {step.result} |" for step in self.steps]
        for step in self.steps:
            lines += ["", f"## {step.name}: {step.result}", "", *(f"- {line}" for line in step.lines)]
        return "\n".join(lines)
