"""What an audit has found so far."""

from dataclasses import dataclass, field

from service.chains.audit import Finding, LedgerReport


@dataclass(slots=True)
class Results:
    """What has been found, in the sequence in which it was."""

    landed: int = 0
    in_flight: int = 0
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def find(self, subject: str, what: str) -> None:
        """Add a violation."""
        self.findings.append(Finding(subject, what))

    def warn(self, subject: str, what: str) -> None:
        """Add what could not be checked."""
        self.warnings.append(Finding(subject, what))

    def note(self, subject: str, what: str) -> None:
        """Add what is worth knowing, and is no violation."""
        self.notes.append(Finding(subject, what))

    def report(self) -> LedgerReport:
        """Return the report."""
        return LedgerReport(self.landed, self.findings, self.in_flight, self.warnings, self.notes)
