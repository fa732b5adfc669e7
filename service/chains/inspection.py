"""What commands ask of a venue before it trades: checks, the wallet, and the pools that it could trade in.

Whatever is shown is one line, without a secret: texts of nodes are cut, and their control characters
replaced, since they go to a terminal.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

from service.domain.tokens import Token

_LONGEST = 400


class InspectionError(Exception):
    """It cannot be done. The message says why, in one line."""


class CheckResult(StrEnum):
    """What came of a check. The values are those of ``doctor --json``."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: What was checked, such as ``lag``.
        subject: Of what, such as an endpoint's name; empty if there is only one.
        result: What came of it.
        found: What was found.
        remedy: What to do about it; empty if there is nothing to do.
    """

    name: str
    subject: str
    result: CheckResult
    found: str
    remedy: str = ""

    @classmethod
    def ok(cls, name: str, subject: str, found: str) -> Self:
        """Return a check that found nothing wrong."""
        return cls(name, subject, CheckResult.OK, one_line(found))

    @classmethod
    def warning(cls, name: str, subject: str, found: str, remedy: str) -> Self:
        """Return a check that found what may go wrong, or what stops some orders only."""
        return cls(name, subject, CheckResult.WARNING, one_line(found), one_line(remedy))

    @classmethod
    def failed(cls, name: str, subject: str, found: str, remedy: str) -> Self:
        """Return a check that found what keeps the service from trading as it is configured."""
        return cls(name, subject, CheckResult.FAILED, one_line(found), one_line(remedy))

    def as_json(self) -> dict[str, str]:
        """Return it as ``doctor --json`` prints it."""
        return {
            "check": self.name,
            "subject": self.subject,
            "result": self.result,
            "found": self.found,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        """Return it as a line."""
        what = f"{self.name} {self.subject}" if self.subject else self.name
        remedy = f". To do: {self.remedy}" if self.remedy else ""
        return f"{self.result:<8} {what}: {self.found}{remedy}"


class HeldToken(NamedTuple):
    """What the wallet holds of a token, in base units, and the account that holds it."""

    token: Token
    amount: int
    account: str


@dataclass(frozen=True, slots=True)
class FoundPool:
    """A pool of a pair.

    Attributes:
        program: The name of its program.
        address: Its account.
        tokens: Its tokens; A first.
        reserves: What its vaults hold of them, in base units; None if it could not be read.
        fee_ppm: What it charges now, in millionths; None if it does not quote.
        problem: Why it cannot be used; None if it can.
        listed: Whether it is in the list of pools.
    """

    program: str
    address: str
    tokens: tuple[Token, Token]
    reserves: tuple[int, int] | None
    fee_ppm: int | None
    problem: str | None
    listed: bool


class Discovery(NamedTuple):
    """The pools of a pair that were found, the largest first, and why some could not be looked for."""

    pools: Sequence[FoundPool]
    problems: Sequence[str]


class Inspector(Protocol):
    """Looks at a venue by the settings of the service, without trading."""

    async def start(self) -> None:
        """Open what it needs."""
        ...

    async def stop(self) -> None:
        """Close it."""
        ...

    def checks(self) -> AsyncIterator[Check]:
        """Check everything that trading needs."""
        ...

    def pool_checks(self) -> AsyncIterator[Check]:
        """Check the listed pools, and what reading them needs.

        Raises:
            InvalidSettingError: A list cannot be used.
            VenueUnavailableError: No node answered.
        """
        ...

    def address(self) -> str:
        """Return the wallet's public key.

        Raises:
            InvalidSettingError: There is no usable wallet.
        """
        ...

    async def holdings(self) -> Sequence[HeldToken]:
        """Return what the wallet holds of each token that may be traded, by symbol.

        Raises:
            InvalidSettingError: There is no usable wallet, or no usable list of tokens.
            VenueUnavailableError: No node answered.
        """
        ...

    async def discover(self, first: str, second: str) -> Discovery:
        """Find the pools of two tokens, each named by its symbol or its mint.

        Raises:
            InspectionError: A token is not known.
            VenueUnavailableError: No node answered.
        """
        ...

    def list_pools(self, pools: Sequence[FoundPool]) -> str:
        """Add pools to the list of the settings, and return its file.

        Raises:
            InspectionError: The list cannot be written, or the venue has one of its own.
        """
        ...


def one_line(text: str) -> str:
    """Return a text as one line that a terminal can show, cut if it is long."""
    shown = "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
