"""Signs messages: the interface of signers, and the local one, whose key is in this process.

keychain.py has the signers outside this process.

A signer returns a signature, never a transaction. The transaction that is sent is our message with that
signature, which must fit message and wallet: so no signer can make the service send anything else.

The key of a local signer is in no representation, error, traceback or pickle. Python cannot do more: the text
that it was read from, and copies of it, stay in the process's memory until something overwrites them, and who
may read that memory, the superuser or a debugger attached before the start, can read the key.
"""

import asyncio
import json
import logging
import os
import re
import stat
from typing import NoReturn, Protocol

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from service.chains.solana.sending.core_dumps import forbid_core_dumps

log = logging.getLogger(__name__)

# A key file has 64 numbers of at most three digits; an RSA key in PEM has a few thousand characters.
_LARGEST_FILE = 16_384
_KEY_BYTES = 64


class InvalidSignerError(Exception):
    """The setting names no usable signer. The message says why, never what was read."""


class SignerUnavailableError(Exception):
    """The signer gave no usable signature; nothing was sent."""


class WalletSigner(Protocol):
    """Signs messages with the key of one wallet."""

    @property
    def public_key(self) -> Pubkey:
        """The wallet."""
        ...

    async def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes.

        Raises:
            SignerUnavailableError: It does not sign now.
        """
        ...

    async def close(self) -> None:
        """Close its connections, if it has any."""
        ...


class LocalSigner:
    """Signs with a key in this process."""

    __slots__ = ("_keys", "_public_key")

    def __init__(self, keys: Keypair) -> None:
        self._keys = keys
        self._public_key = keys.pubkey()

    @property
    def public_key(self) -> Pubkey:
        """The wallet."""
        return self._public_key

    async def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return bytes(self._keys.sign_message(message))

    async def close(self) -> None:
        """Do nothing: it has no connections."""

    def __repr__(self) -> str:
        return f"LocalSigner({self._public_key})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be copied or pickled: the key would be in the copy")


async def sign_message(signer: WalletSigner, message: bytes, timeout_s: float) -> bytes:
    """Return the bytes of a version 1 transaction: the message, and the wallet's signature of it.

    Args:
        signer: The wallet's signer.
        message: The message as built.
        timeout_s: Maximum wait.

    Raises:
        SignerUnavailableError: It did not sign in time, or not this message with the wallet's key.
    """
    try:
        async with asyncio.timeout(timeout_s):
            signed = await signer.sign(message)
    except TimeoutError:
        raise SignerUnavailableError(f"the signer did not answer within {timeout_s:g} s") from None
    if len(signed) != Signature.LENGTH:
        raise SignerUnavailableError("the signer did not return a signature")
    if not Signature.from_bytes(signed).verify(signer.public_key, message):
        raise SignerUnavailableError("the signer signed another message, or with another key")
    return message + signed


def load_signer(setting: str) -> WalletSigner:
    """Return the signer that a setting names: ``file:/path/id.json``, ``env:NAME`` or ``keychain:vault``.

    The first two hold the 64 bytes of a key pair as a JSON array, as the tools of Solana write it. The
    variable is removed from this process's environment, so that no child inherits it.

    Raises:
        InvalidSignerError: It names none, or one that is not safe to use.
    """
    kind, _, name = setting.partition(":")
    if kind not in ("file", "env", "keychain") or not name or name.lstrip().startswith("["):
        raise InvalidSignerError("must be file:/path/id.json, env:NAME, or keychain: and a back end")
    # A key itself, pasted by mistake, is shown by no message; in base58 it has small letters.
    if kind == "env" and not re.fullmatch("[A-Z_][A-Z0-9_]*", name):
        raise InvalidSignerError("env: must be followed by a variable's name, in capitals")
    for problem in forbid_core_dumps():
        log.warning("the wallet's key could end up in a core dump: %s", problem)
    if kind == "keychain":
        # It imports this module.
        from service.chains.solana.sending.keychain import load_keychain_signer  # noqa: PLC0415

        return load_keychain_signer(name)
    keys = _keys(read_private_file(name)) if kind == "file" else _keys(os.environ.pop(name, ""))
    if keys is None:
        what = "the file" if kind == "file" else f"the variable {name}"
        raise InvalidSignerError(f"{what} does not hold a key pair: a JSON array of 64 bytes that fit")
    return LocalSigner(keys)


def read_private_file(path: str) -> bytes:
    """Return the content of a file with a secret, if nobody else can read it.

    Raises:
        InvalidSignerError: It cannot be read, or is not a file that only this user can read.
    """
    # As for the lists: a path in a file of settings goes through no shell.
    path = os.path.expanduser(path)  # noqa: PTH111 - Path raises where there is no home
    try:
        # Checked after opening, so that it cannot be exchanged in between; a FIFO does not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise InvalidSignerError(f"the file {path} cannot be opened: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidSignerError(f"{path} is not a regular file")
        if status.st_uid != os.geteuid():
            raise InvalidSignerError(f"the file {path} belongs to another user")
        if stat.S_IMODE(status.st_mode) not in (0o600, 0o400):
            mode = stat.S_IMODE(status.st_mode)
            raise InvalidSignerError(f"the file {path} has the mode {mode:04o}; it must be 0600")
        return os.read(descriptor, _LARGEST_FILE)
    finally:
        os.close(descriptor)


def _keys(text: bytes | str) -> Keypair | None:
    """Return the key pair in a JSON array, None if there is none.

    It raises nothing: an error of the parsers, and the frames of its traceback, would hold what was read.
    """
    try:
        numbers = json.loads(text)
        if isinstance(numbers, list) and [type(each) for each in numbers] == [int] * _KEY_BYTES:
            # Refuses a public key that is not the secret key's.
            return Keypair.from_bytes(bytes(numbers))
    except (ValueError, RecursionError):
        pass
    return None
