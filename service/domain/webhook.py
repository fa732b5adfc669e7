"""Webhooks by the Standard Webhooks convention: what is sent to an endpoint, and when it is sent again.

A message is one entry of an order's history. Its id is the same however often, and to whichever endpoint, it
is sent, so that a receiver can drop what it has already got.
"""

import base64
from dataclasses import dataclass, field

SECRET_BYTES = 32

_SECRET_PREFIX = "whsec_"  # noqa: S105 - of every secret
_SLOWEST_RETRY_MS = 600_000
_LONGEST_PAUSE_S = 3_600


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """An entry of an order's history that is due at an endpoint of an account.

    ``attempts`` have failed. Each of the ``secrets`` signs.
    """

    endpoint_id: str
    account: str
    order_id: str
    sequence: int
    attempts: int
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """What an endpoint answered to an attempt.

    Attributes:
        failure: Why the attempt failed, for the account; None: it was delivered.
        pause_s: How long the endpoint asks not to be called.
        gone: Whether the endpoint wants nothing more.
    """

    failure: str | None = None
    pause_s: float | None = None
    gone: bool = False


def event_type(status: str) -> str:
    """Return the type of a message about an order that has got a status."""
    return f"order.{status}"


def message_id(order_id: str, sequence: int) -> str:
    """Return the id of a message. It has no full stop, since the signature is over ``id.time.body``."""
    return f"msg_{order_id}_{sequence}"


def format_secret(secret: bytes) -> str:
    """Return a secret as its owner gets it."""
    return _SECRET_PREFIX + base64.b64encode(secret).decode()


def answer_of(status: int, retry_after_s: float | None) -> WebhookAnswer:
    """Return the meaning of an HTTP response.

    Args:
        status: Its status.
        retry_after_s: Its Retry-After, if it has one.
    """
    if 200 <= status < 300:
        return WebhookAnswer()
    if status == 410:
        return WebhookAnswer("It answered 410: it wants nothing more.", gone=True)
    if 300 <= status < 400:
        return WebhookAnswer(f"It answered {status}; redirects are not followed.")
    pause_s = None if retry_after_s is None else min(max(retry_after_s, 0), _LONGEST_PAUSE_S)
    return WebhookAnswer(f"It answered {status}.", pause_s if status in {429, 503} else None)


def slowest_retry_ms(attempts: int, base_ms: int) -> int:
    """Return the longest time until the next attempt; it is drawn from its upper half.

    Args:
        attempts: How many have failed before the one that has just failed.
        base_ms: The time after the first.
    """
    # The exponent is limited so that the number stays small.
    return min(base_ms << min(attempts, 32), _SLOWEST_RETRY_MS)
