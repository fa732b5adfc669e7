"""Idempotency keys: a client may send the same request again, and it is executed only once."""

import contextlib
import hashlib
import re
from dataclasses import dataclass

import orjson

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's key, and the hash of the request that it stands for."""

    key: str
    request_hash: bytes

    def of_part(self, number: int) -> "IdempotencyKey":
        """Return the key of one part of the request. It has a space, so no client's key can be the same."""
        digest = hashlib.sha256(self.request_hash + number.to_bytes(8)).digest()
        return IdempotencyKey(f"{self.key} {number}", digest)


def parse_key(header: str) -> str | None:
    """Parse the header ``Idempotency-Key``; None: it is malformed.

    The IETF draft (draft-ietf-httpapi-idempotency-key-header) writes the key as a quoted string; most clients
    send it without quotes. Both are the same key.
    """
    text = header.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text if _KEY.fullmatch(text) and '"' not in text else None


def hash_request(method: str, path: str, body: bytes) -> bytes:
    """Return the SHA-256 hash of a request; a JSON body's spaces and order of members do not matter."""
    # A body that is not JSON, or nested too deeply to be written again, is rejected by the handler.
    with contextlib.suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), body))).digest()
