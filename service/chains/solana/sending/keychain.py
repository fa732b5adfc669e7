"""Signers outside this process, by the extra ``solana-keychain``: key management services and custodians.

The extra has a class for each. Those that change the transaction or send it themselves are refused: a
transaction must be stored, as it is, before its first byte is sent. What the others return is checked like
every signature. Whatever goes wrong in them, nothing has been sent.

Their settings, with logins and tokens, are variables of the environment, named like the fields of the extra's
configuration. They are removed from it, so that no child inherits them, and are in no error.
"""

import asyncio
import dataclasses
import importlib
import logging
import os
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_type_hints

from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from service.chains.solana.sending.signer import (
    InvalidSignerError,
    SignerUnavailableError,
    read_private_file,
)

if TYPE_CHECKING:
    import httpx
    from solana_keychain.core import TransactionSigner

PREFIX = "SOLANA_SIGNER_"

BACK_ENDS: Mapping[str, tuple[str, str, str]] = {
    "aws-kms": ("aws_kms", "AwsKmsSigner", "AwsKmsSignerConfig"),
    "cdp": ("cdp", "CdpSigner", "CdpSignerConfig"),
    "dfns": ("dfns", "DfnsSigner", "DfnsSignerConfig"),
    "fireblocks": ("fireblocks", "FireblocksSigner", "FireblocksSignerConfig"),
    "fordefi": ("fordefi", "FordefiBlackBoxSigner", "FordefiSignerConfig"),
    "gcp-kms": ("gcp_kms", "GcpKmsSigner", "GcpKmsSignerConfig"),
    "openfort": ("openfort", "OpenfortSigner", "OpenfortSignerConfig"),
    "para": ("para", "ParaSigner", "ParaSignerConfig"),
    "privy": ("privy", "PrivySigner", "PrivySignerConfig"),
    "turnkey": ("turnkey", "TurnkeySigner", "TurnkeySignerConfig"),
    "utila": ("utila", "UtilaSigner", "UtilaSignerConfig"),
    "vault": ("vault", "VaultSigner", "VaultSignerConfig"),
}
"""The back ends that can be used: the extra's module, signer and configuration of each."""

_REFUSED = {
    "crossmint": "it changes the transaction and sends it itself, before it could be stored",
    "memory": "its key would be in this process; use file: or env:",
}
_NATIVE = "with it, fordefi would change the transaction or send it itself"
_REFUSED_SETTINGS = {
    ("fireblocks", "use_program_call"): "with it, fireblocks does not sign transactions of version 1",
    ("fordefi", "chain"): _NATIVE,
    ("fordefi", "fee"): _NATIVE,
    ("fordefi", "push_mode"): _NATIVE,
}
# The fields that hold the wallet's public key, which every back end is given under one name.
_PUBLIC_KEY = "public_key"
_PUBLIC_KEY_FIELDS = (_PUBLIC_KEY, "address")
_CLIENT_FIELD = "http_client"
# They are settings of this service.
_NOT_FIELDS = ("timeout_s",)
# At their lower levels they log URLs with accounts and wallets, or headers.
_TALKATIVE = ("boto3", "botocore", "google", "httpcore", "httpx", "urllib3")


class KeychainSigner:
    """Signs with a key that is in no memory of this machine, by a signer of the extra.

    Args:
        name: The back end, for errors.
        signer: Asks it for signatures.
        public_key: The wallet; a back end that has another key is not used.
        client: Its HTTP connections, closed with it; None: it has none.
    """

    __slots__ = ("_checked", "_checking", "_client", "_name", "_public_key", "_signer")

    def __init__(
        self,
        name: str,
        signer: "TransactionSigner",
        public_key: Pubkey,
        client: "httpx.AsyncClient | None" = None,
    ) -> None:
        self._name = name
        self._signer = signer
        self._public_key = public_key
        self._client = client
        self._checked = False
        self._checking = asyncio.Lock()

    @property
    def public_key(self) -> Pubkey:
        """The wallet."""
        return self._public_key

    async def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes; the caller checks it.

        Raises:
            SignerUnavailableError: The back end does not sign now.
        """
        try:
            await self._check()
            unsigned = VersionedTransaction.from_bytes(message + bytes(Signature.LENGTH))
            # The transaction, not its bytes as a message: some sign nothing else, or have rules for it.
            return bytes((await self._signer.sign_transaction(unsigned)).signature)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no signature
            problem = _words(error)
        # Outside, so that no error of the extra, whose frames hold logins, is the context of this one.
        raise SignerUnavailableError(f"keychain:{self._name}: {problem}")

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()

    def __repr__(self) -> str:
        return f"KeychainSigner({self._name}, {self._public_key})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer cannot be copied or pickled: its login would be in the copy")

    async def _check(self) -> None:
        """Find out, once, which key the back end has: some have to be asked."""
        async with self._checking:
            if self._checked:
                return
            ask = getattr(self._signer, "init", None)
            if ask is not None:
                await ask()
            if self._signer.pubkey != self._public_key:
                raise SignerUnavailableError(f"it has the key {self._signer.pubkey}, not {self._public_key}")
            self._checked = True


def load_keychain_signer(name: str) -> KeychainSigner:
    """Return the signer of a back end; nothing is asked of it before it has to sign.

    Args:
        name: The back end.

    Raises:
        InvalidSignerError: It cannot be used, or not with these settings. The message shows no value.
    """
    made = _make(name)
    if isinstance(made, str):
        # Not where it was found: the frames there hold the settings.
        raise InvalidSignerError(made)
    return made


def _make(name: str) -> KeychainSigner | str:
    given = _take_settings()
    try:
        return _made(name, given)
    except InvalidSignerError as error:
        return str(error)


def _take_settings() -> dict[str, str]:
    """Return the settings by the names of their fields, and remove them from the environment."""
    taken = {}
    for name in sorted(os.environ):
        field = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and field not in _NOT_FIELDS:
            # An empty one counts as not set, as everywhere.
            if value := os.environ[name].strip():
                taken[field] = value
            del os.environ[name]
    return taken


def _made(name: str, given: dict[str, str]) -> KeychainSigner:
    if name in _REFUSED:
        raise InvalidSignerError(f"keychain:{name} cannot be used: {_REFUSED[name]}")
    if name not in BACK_ENDS:
        raise InvalidSignerError(f"keychain: must be followed by one of {', '.join(BACK_ENDS)}")
    for field in given:
        if (name, field) in _REFUSED_SETTINGS:
            raise InvalidSignerError(f"{_variable(field)} must not be set: {_REFUSED_SETTINGS[name, field]}")
    signer_class, config_class = _classes(name)
    public_key = _public_key(given.pop(_PUBLIC_KEY, None))
    for logger in _TALKATIVE:
        logging.getLogger(logger).setLevel(logging.WARNING)
    client = None
    try:
        values = _values(name, config_class, given, public_key)
        if _CLIENT_FIELD in _fields(config_class):
            # One for all signatures: a new one would begin with certificates and a handshake each time.
            client = values[_CLIENT_FIELD] = importlib.import_module("httpx").AsyncClient()
        return KeychainSigner(name, signer_class(config_class(**values)), public_key, client)
    except InvalidSignerError:
        raise
    except Exception as error:  # noqa: BLE001 - the extra's own checks
        problem = _words(error)
    raise InvalidSignerError(
        f"keychain:{name} does not accept its settings (a URL must begin with https://): {problem}"
    )


def _classes(name: str) -> tuple[type[Any], type[Any]]:
    """Return a back end's signer and configuration.

    Raises:
        InvalidSignerError: It is not installed, or would send transactions.
    """
    module_name, signer_name, config_name = BACK_ENDS[name]
    try:
        core = importlib.import_module("solana_keychain.core")
    except ImportError:
        raise InvalidSignerError(
            f"keychain:{name} needs the extra solana-keychain: pip install 'order-execution-engine"
            "[solana-keychain]', or make keychain"
        ) from None
    try:
        module = importlib.import_module(f"solana_keychain.{module_name}")
        signer, config = getattr(module, signer_name), getattr(module, config_name)
    except ImportError:
        raise InvalidSignerError(
            f"keychain:{name} needs more packages: pip install 'solana-keychain[{name}]'"
        ) from None
    if not issubclass(signer, core.TransactionSigner) or issubclass(
        signer, (core.ModifyingSigner, core.SendingSigner)
    ):
        raise InvalidSignerError(f"keychain:{name} cannot be used: it changes transactions or sends them")
    return signer, config


def _public_key(text: str | None) -> Pubkey:
    """Return the wallet, also of a back end that could be asked: the service starts while it is away."""
    if text is None:
        raise InvalidSignerError(f"{PREFIX}PUBLIC_KEY, the wallet's public key, is missing")
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise InvalidSignerError(f"{PREFIX}PUBLIC_KEY is not a public key") from None


def _fields(config: type[Any]) -> dict[str, "dataclasses.Field[Any]"]:
    return {field.name: field for field in dataclasses.fields(config)}


def _values(name: str, config: type[Any], given: Mapping[str, str], public_key: Pubkey) -> dict[str, Any]:
    """Return the fields of a back end's configuration.

    Raises:
        InvalidSignerError: A setting is missing, is not one of the back end's, or has no valid value.
    """
    fields, types = _fields(config), get_type_hints(config)
    values: dict[str, Any] = {each: str(public_key) for each in _PUBLIC_KEY_FIELDS if each in fields}
    settable = {
        each for each, kind in types.items() if _plain(kind) in (str, int, list[str]) and each not in values
    }
    for field, text in given.items():
        if field not in settable:
            known = ", ".join(map(_variable, sorted(settable)))
            raise InvalidSignerError(f"{_variable(field)} is not a setting of keychain:{name}: {known}")
        values[field] = _value(field, _plain(types[field]), text, secret=not fields[field].repr)
    missing = [
        _variable(each.name)
        for each in fields.values()
        if each.name not in values
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidSignerError(f"keychain:{name} needs {', '.join(missing)}")
    return values


def _plain(kind: Any) -> Any:
    """Return a type without None."""
    if isinstance(kind, UnionType):
        [*others] = (each for each in get_args(kind) if each is not NoneType)
        return others[0] if len(others) == 1 else kind
    return kind


def _value(field: str, kind: Any, text: str, *, secret: bool) -> Any:
    if kind is int:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InvalidSignerError(f"{_variable(field)} must be a whole number")
        return int(text)
    if kind == list[str]:
        return [each.strip() for each in text.split(",")]
    if secret and text.startswith("file:"):
        try:
            return read_private_file(text.removeprefix("file:")).decode().strip()
        except InvalidSignerError as error:
            raise InvalidSignerError(f"{_variable(field)}: {error}") from None
        except UnicodeDecodeError:
            raise InvalidSignerError(f"{_variable(field)}: the file is not UTF-8") from None
    return text


def _variable(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def _words(error: Exception) -> str:
    """Say what went wrong, without anything that an error was made with."""
    if isinstance(error, SignerUnavailableError):
        return str(error)
    if type(error).__module__.startswith("solana_keychain."):
        # Its text is one of a fixed list.
        status = getattr(error, "status_code", None)
        return str(error) if status is None else f"{error} (HTTP status {status})"
    return type(error).__name__
