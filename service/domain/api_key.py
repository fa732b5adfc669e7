"""API keys: who a caller is, and what it may do.

A key's token is ``oek_<id>_<secret>``. The id is public and names the key in lists and logs. The secret is
256 random bits; only its SHA-256 hash is stored. A slow hash, as for passwords, is not needed: such a secret
cannot be guessed.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.key_limits import NO_LIMITS, KeyLimits

_PREFIX = "oek"
_TOKEN = re.compile(rf"{_PREFIX}_([0-9a-f]{{16}})_([0-9a-f]{{64}})")

ACCOUNT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""The name of an account, as a regular expression of JSON Schema."""

LONGEST_NAME = 64
"""The maximum length of a key's name, in characters."""


class Scope(StrEnum):
    """What a caller may do; each scope includes the ones before it."""

    READ = "read"  # reads its account's orders, and the market
    TRADE = "trade"  # places, amends and cancels its account's orders
    ADMIN = "admin"  # sees and changes the orders of all accounts, and operates the service

    def includes(self, other: "Scope") -> bool:
        """Return whether a caller with this scope may do what the other one allows."""
        return _SCOPES.index(self) >= _SCOPES.index(other)


_SCOPES = list(Scope)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored, without its secret. Times are seconds since the Unix epoch; None: never.

    ``previous_until`` is the time until which the secret before the last rotation is valid.
    """

    id: str
    account: str
    name: str
    scope: Scope
    secret_hash: bytes
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    previous_hash: bytes | None = None
    previous_until: float | None = None
    limits: KeyLimits = NO_LIMITS

    def is_active(self, now: float) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def accepts(self, secret_hash: bytes, now: float) -> bool:
        """Return whether a secret with this hash is valid now. The comparison takes constant time."""
        matches = hmac.compare_digest(secret_hash, self.secret_hash)
        # Both are compared, so that the time does not tell which secret was guessed.
        matches_previous = hmac.compare_digest(secret_hash, self.previous_hash or self.secret_hash)
        in_overlap = self.previous_until is not None and now < self.previous_until
        return (matches or (matches_previous and in_overlap)) and self.is_active(now)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: an API key, or an anonymous client while there are no keys (``key_id`` is None).

    ``limits`` are the key's when the request was authenticated.
    """

    account: str
    scope: Scope
    key_id: str | None
    # Not compared: a key is the same caller whatever its limits were when it opened a WebSocket.
    limits: KeyLimits = field(default=NO_LIMITS, compare=False)

    def may_see(self, account: str | None) -> bool:
        """Return whether an account's orders are visible to this caller."""
        return account == self.account or self.scope is Scope.ADMIN


def format_token(key_id: str, secret: str) -> str:
    """Return the token that a client sends."""
    return f"{_PREFIX}_{key_id}_{secret}"


def parse_token(text: str) -> tuple[str, bytes] | None:
    """Return a token's key id and its secret's hash; None if it is malformed."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else (match[1], hash_secret(match[2]))


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 hash of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def is_account_name(text: str) -> bool:
    """Return whether a text can name an account: it matches ``ACCOUNT_PATTERN``."""
    # In Python $ also matches before a final line feed.
    return re.fullmatch(ACCOUNT_PATTERN.strip("^$"), text) is not None
