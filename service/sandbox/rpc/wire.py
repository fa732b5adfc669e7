"""Transactions as clients send them: decoded, or refused as nodes refuse them."""

import base64
import binascii
from typing import NamedTuple

from solders.message import MessageV1
from solders.transaction import SanitizeError, VersionedTransaction

from service.chains.solana.builder import MAX_ACCOUNTS, MAX_BYTES, MAX_INSTRUCTIONS
from service.sandbox.errors import CallRefusedError, invalid_params
from service.sandbox.rpc import base58

_OLDER_MAX_BYTES = 1_232
_MAX_SIGNATURES = 12
_TYPE = "solana_transaction::versioned::VersionedTransaction"
_LONGEST_TEXT = 2 * MAX_BYTES


class Sent(NamedTuple):
    """A transaction and its bytes."""

    transaction: VersionedTransaction
    raw: bytes


def decode_transaction(text: str, encoding: str) -> Sent:
    """Decode a transaction.

    Raises:
        CallRefusedError: It is not one, or larger than its version may be.
    """
    raw = _decoded(text, encoding)
    try:
        transaction = VersionedTransaction.from_bytes(raw)
    except ValueError as error:
        raise invalid_params(f"failed to deserialize {_TYPE}: {error}") from error
    if bytes(transaction) != raw:
        raise invalid_params(f"failed to deserialize {_TYPE}: trailing bytes")
    version_1 = isinstance(transaction.message, MessageV1)
    if not version_1:
        _check_size(raw, _OLDER_MAX_BYTES)
    _sanitize(transaction, version_1=version_1)
    return Sent(transaction, raw)


def _decoded(text: str, encoding: str) -> bytes:
    if encoding not in ("base58", "base64"):
        raise invalid_params(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    if len(text) > _LONGEST_TEXT:
        raise invalid_params(f"{encoding} encoded {_TYPE} too large: {len(text)} bytes")
    try:
        raw = base58.decode(text) if encoding == "base58" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise invalid_params(f"invalid {encoding} encoding: {error}") from error
    _check_size(raw, MAX_BYTES)
    return raw


def _check_size(raw: bytes, most: int) -> None:
    if len(raw) > most:
        raise invalid_params(f"decoded {_TYPE} too large: {len(raw)} bytes (max: {most} bytes)")


def _sanitize(transaction: VersionedTransaction, *, version_1: bool) -> None:
    message = transaction.message
    sound = len(transaction.signatures) == message.header.num_required_signatures
    if version_1:
        sound = (
            sound
            and len(message.account_keys) <= MAX_ACCOUNTS
            and len(message.instructions) <= MAX_INSTRUCTIONS
            and len(transaction.signatures) <= _MAX_SIGNATURES
        )
    sound = sound and len(set(message.account_keys)) == len(message.account_keys)
    try:
        transaction.sanitize()
    except SanitizeError:
        sound = False
    if not sound:
        raise invalid_params("invalid transaction: Transaction failed to sanitize accounts offsets correctly")


def verify(transaction: VersionedTransaction) -> None:
    """Check the signatures.

    Raises:
        CallRefusedError: One is wrong.
    """
    if not is_signed(transaction):
        raise CallRefusedError(-32003, "Transaction signature verification failure")


def is_signed(transaction: VersionedTransaction) -> bool:
    """Whether all signatures are right."""
    return all(transaction.verify_with_results())
