"""Positions in the stream of all events, from which a client resumes.

A snapshot of PostgreSQL says which transactions had ended. All events between two snapshots are those of the
transactions that ended between them: no transaction can be missed, however long it runs, and none delays
the others. A position is a snapshot up to which all events were sent; or, within a long row of events, two
snapshots, and how far the client has come between them.

If the database was restored from a backup, or another server has taken over, positions of before may name
events that are lost, and transactions that are others now. Three things tell: the era of the transaction ids,
the next of these ids, and the last event.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Self

_FORM = "1"
_NUMBER = "(0|[1-9][0-9]{0,17})"
_HASH = "([0-9a-f]{8})"
_SNAPSHOT = rf"([1-9][0-9]{{0,17}}(?:-(?:0|[1-9][0-9]{{0,17}}))+)\.{_NUMBER}\.{_HASH}"
_TOKEN = re.compile(rf"{_FORM}\.{_HASH}\.{_HASH}\.{_NUMBER}\.{_SNAPSHOT}(?:\.{_SNAPSHOT}\.{_NUMBER})?")
LONGEST_TOKEN = 7_000
"""In characters: a request's target has at most 8 KiB."""

VALID_S = 24 * 60 * 60
"""How long a position is valid, in seconds."""

NO_EVENT = "00000000"
"""The hash of the last event if there is none."""


class InvalidPositionError(Exception):
    """A text is not a position of this deployment."""


@dataclass(frozen=True, slots=True)
class EventSnapshot:
    """Which transactions had ended: those below ``xmax``, without the ``running`` ones (in order).

    Those from ``xmax`` to ``next_xid`` may have been running; the ids from ``next_xid`` on were not assigned.
    ``last_id`` is the highest id of the events in it, and ``last_hash`` tells that event from others. Events
    of transactions that began later have higher ids.
    """

    xmax: int
    next_xid: int
    running: tuple[int, ...]
    last_id: int
    last_hash: str = NO_EVENT

    @classmethod
    def of(cls, text: str, next_xid: int, last_id: int, last_hash: str = NO_EVENT) -> Self:
        """Return a snapshot that was read, in PostgreSQL's form: ``xmin:xmax:xid,xid``."""
        _xmin, xmax, running = text.split(":")
        return cls(int(xmax), next_xid, tuple(map(int, filter(None, running.split(",")))), last_id, last_hash)

    @property
    def text(self) -> str:
        """PostgreSQL's form."""
        xmin = min(self.running, default=self.xmax)
        return f"{xmin}:{self.xmax}:{','.join(map(str, self.running))}"

    def ended_by(self, later: "EventSnapshot") -> list[int]:
        """Return which of the ``running`` transactions had ended by a later snapshot."""
        return sorted({xid for xid in self.running if xid < later.xmax}.difference(later.running))

    def may_differ(self, later: "EventSnapshot") -> bool:
        """Return whether there may be events between this snapshot and a later one."""
        has_ended = self.xmax < min(self.next_xid, later.xmax) or self.ended_by(later)
        return later.last_id > self.last_id or bool(has_ended)

    def encode(self) -> str:
        """Return a short text."""
        # Running transactions are recent: the differences are short.
        ages = "".join(f"-{self.xmax - xid}" for xid in self.running)
        return f"{self.xmax}-{self.next_xid - self.xmax}{ages}.{self.last_id}.{self.last_hash}"

    @classmethod
    def decode(cls, ids: str, last_id: str, last_hash: str) -> Self:
        """Return the snapshot of such a text's three parts.

        Raises:
            InvalidPositionError: It is not of one.
        """
        xmax, assigned, *ages = map(int, ids.split("-"))
        running = tuple(xmax - age for age in ages)
        if sorted(set(running)) != list(running) or min(running, default=1) < 1 or 0 in ages:
            raise InvalidPositionError
        return cls(xmax, xmax + assigned, running, int(last_id), last_hash)


@dataclass(frozen=True, slots=True)
class EventPosition:
    """A position: the events of a snapshot were sent, and some of those up to a later snapshot.

    Attributes:
        base: The snapshot whose events were sent.
        at: When it was taken, in seconds since the Unix epoch, by PostgreSQL's clock.
        era: The era of the snapshots' transaction ids, hashed.
        target: A later snapshot; None: nothing after ``base`` was sent.
        after: The id of the last event that was sent.
    """

    base: EventSnapshot
    at: float
    era: str
    target: EventSnapshot | None = None
    after: int = 0

    def encode(self, deployment: str) -> str:
        """Return the position as an opaque text for clients of a deployment."""
        head = f"{_FORM}.{deployment[:8]}.{self.era}.{int(self.at)}.{self.base.encode()}"
        rest = "" if self.target is None else f".{self.target.encode()}.{self.after}"
        return base64.urlsafe_b64encode(f"{head}{rest}".encode()).decode().rstrip("=")

    @property
    def newest(self) -> EventSnapshot:
        """The later one of its snapshots."""
        return self.base if self.target is None else self.target

    def is_valid_at(self, now: "EventPosition") -> bool:
        """Return whether a client can resume here, if its last event is still there.

        Args:
            now: The position after all events.
        """
        newest_xid = max(self.base.next_xid, self.newest.next_xid)
        return self.era == now.era and newest_xid <= now.base.next_xid and now.at - self.at <= VALID_S


def decode_position(token: str, deployment: str) -> EventPosition:
    """Return the position of a text that a client sent.

    Raises:
        InvalidPositionError: It is none, or of another deployment.
    """
    try:
        text = base64.urlsafe_b64decode(token.encode("ascii") + b"==").decode("ascii")
    except (binascii.Error, UnicodeError):
        raise InvalidPositionError from None
    match = _TOKEN.fullmatch(text) if len(token) <= LONGEST_TOKEN else None
    if match is None or match[1] != deployment[:8]:
        raise InvalidPositionError
    _deployment, era, at, *snapshots, after = match.groups()
    target = None if after is None else EventSnapshot.decode(*snapshots[3:])
    return EventPosition(EventSnapshot.decode(*snapshots[:3]), float(at), era, target, int(after or 0))


def hashed(text: str) -> str:
    """Return a hash of a text: 8 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
