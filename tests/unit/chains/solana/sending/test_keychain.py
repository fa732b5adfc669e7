"""Signers outside this process: which are accepted, what goes wrong in them, and that no login shows."""

import asyncio
import base64
import copy
import os
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from solana_keychain import (
    SUPPORTED_BACKENDS,
    MemorySigner,
    ModifyingSigner,
    SendingSigner,
    SignedTransaction,
    TransactionSigner,
)
from solana_keychain.vault import VaultSignerConfig
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from service.chains.solana.sending.keychain import BACK_ENDS, KeychainSigner
from service.chains.solana.sending.signer import (
    InvalidSignerError,
    LocalSigner,
    SignerUnavailableError,
    WalletSigner,
    load_signer,
    sign_message,
)
from service.chains.venue import VenueRefusedError
from service.domain.failures import FailureCode
from service.domain.transaction import TransactionState
from tests.support.local_chain import LocalChain
from tests.support.solana_venue import OPTIONS, venue_desk
from tests.unit.chains.solana.sending.test_signer import KEYS, built, shown

TOKEN = "hvs.topsecret"
VAULT = {
    "SOLANA_SIGNER_API_BASE_URL": "https://vault.example/",
    "SOLANA_SIGNER_TOKEN": TOKEN,
    "SOLANA_SIGNER_KEY_NAME": "trading",
    "SOLANA_SIGNER_PUBLIC_KEY": str(KEYS.pubkey()),
}


class Vault:
    """A server that speaks the protocol of Vault's transit engine, and answers as the test says.

    Args:
        keys: What it signs with.
    """

    def __init__(self, keys: Keypair) -> None:
        self.keys = keys
        self.kind = "right"
        self.asked = 0
        self._hangs = asyncio.Event()

    async def sign(self, request: web.Request) -> web.StreamResponse:
        """Answer a call of the signing API."""
        self.asked += 1
        if request.headers["X-Vault-Token"] != TOKEN:
            return web.json_response({"errors": ["permission denied"]}, status=403)
        assert request.match_info["key"] == "trading"
        message = base64.b64decode((await request.json())["input"])
        if self.kind == "slow":
            await self._hangs.wait()
        if self.kind == "down":
            assert request.transport is not None
            request.transport.close()
        return ANSWERS[self.kind](self, message)

    def stop(self) -> None:
        """Let the calls end that hang."""
        self._hangs.set()


def signed(keys: Keypair, message: bytes) -> web.Response:
    signature = base64.b64encode(bytes(keys.sign_message(message))).decode()
    return web.json_response({"data": {"signature": f"vault:v1:{signature}"}})


ANSWERS: Mapping[str, Callable[[Vault, bytes], web.StreamResponse]] = {
    "right": lambda vault, message: signed(vault.keys, message),
    "slow": lambda vault, message: signed(vault.keys, message),
    "down": lambda vault, message: signed(vault.keys, message),
    "another message": lambda vault, message: signed(vault.keys, message[:-1]),
    "another key": lambda _vault, message: signed(Keypair(), message),
    "unavailable": lambda *_: web.json_response({"errors": [TOKEN]}, status=503),
    "not JSON": lambda *_: web.Response(text="<html>"),
    "truncated": lambda *_: web.Response(text='{"data": {"signa', content_type="application/json"),
    "a list": lambda *_: web.json_response([]),
    "null": lambda *_: web.json_response({"data": None}),
    "not base64": lambda *_: web.json_response({"data": {"signature": "vault:v1:%"}}),
    "too short": lambda *_: web.json_response({"data": {"signature": "vault:v1:AAAA"}}),
    "too long": lambda *_: web.Response(body=bytes(2_000_000)),
    "a redirect": lambda *_: web.Response(status=307, headers={"Location": "https://elsewhere.example/"}),
}
WRONG = [kind for kind in ANSWERS if kind != "right"]


@asynccontextmanager
async def remote_signer(
    monkeypatch: pytest.MonkeyPatch, keys: Keypair = KEYS, **variables: str
) -> AsyncIterator[tuple[Vault, WalletSigner]]:
    """Serve a vault, and load its signer from variables."""
    vault = Vault(keys)
    app = web.Application()
    app.router.add_post("/v1/transit/sign/{key}", vault.sign)
    async with TestServer(app, host="127.0.0.1") as server:
        url = str(server.make_url("/"))
        given = {**VAULT, "SOLANA_SIGNER_API_BASE_URL": url, "SOLANA_SIGNER_PUBLIC_KEY": str(keys.pubkey())}
        signer = loaded(monkeypatch, "vault", **{**given, **variables})
        try:
            yield vault, signer
        finally:
            vault.stop()
            await signer.close()


def loaded(monkeypatch: pytest.MonkeyPatch, back_end: str, **variables: str) -> WalletSigner:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_signer(f"keychain:{back_end}")


def refusal(monkeypatch: pytest.MonkeyPatch, back_end: str, **variables: str) -> str:
    """Return why a signer is refused, in one line that shows no secret."""
    with pytest.raises(InvalidSignerError) as refused:
        loaded(monkeypatch, back_end, **variables)
    assert shown(refused.value, [TOKEN]) == []
    assert "\n" not in str(refused.value)
    assert [name for name in os.environ if name.startswith("SOLANA_SIGNER_")] == []
    return str(refused.value)


# --- What is signed


async def test_a_back_end_signs_the_same_as_a_key_in_this_process() -> None:
    signer = KeychainSigner("memory", MemorySigner(KEYS), KEYS.pubkey())
    message = built().signed_bytes
    raw = await sign_message(signer, message, 1.0)
    assert raw == await sign_message(LocalSigner(KEYS), message, 1.0)
    VersionedTransaction.from_bytes(raw).verify_and_hash_message()
    await signer.close()


async def test_a_vault_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    message = built().signed_bytes
    async with remote_signer(monkeypatch) as (vault, signer):
        assert vault.asked == 0
        many = await asyncio.gather(*(sign_message(signer, message, 5.0) for _ in range(20)))
        assert set(many) == {await sign_message(LocalSigner(KEYS), message, 1.0)}


@pytest.mark.parametrize("kind", WRONG)
async def test_whatever_goes_wrong_there_is_no_signature(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    message = built().signed_bytes
    async with remote_signer(monkeypatch) as (vault, signer):
        vault.kind = kind
        timeout_s = 0.05 if kind == "slow" else 5.0
        with pytest.raises(SignerUnavailableError) as failed:
            await sign_message(signer, message, timeout_s)
        # A time-out may be over before the call has arrived.
        assert vault.asked == 1 or kind == "slow"
        assert shown(failed.value, [TOKEN]) == []
        vault.kind = "right"
        await sign_message(signer, message, 5.0)


async def test_a_vault_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = loaded(monkeypatch, "vault", **{**VAULT, "SOLANA_SIGNER_API_BASE_URL": "http://127.0.0.1:1"})
    with pytest.raises(SignerUnavailableError, match=r"keychain:vault: HTTP request failed$"):
        await sign_message(signer, built().signed_bytes, 5.0)
    await signer.close()


@pytest.mark.parametrize("token", ["wrong", "not Latin: \u0416"])
async def test_a_login_that_is_not_accepted(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    async with remote_signer(monkeypatch, SOLANA_SIGNER_TOKEN=token) as (_, signer):
        with pytest.raises(
            SignerUnavailableError, match=r"\(HTTP status 403\)$|UnicodeEncodeError$"
        ) as failed:
            await sign_message(signer, built().signed_bytes, 5.0)
        assert shown(failed.value, [token]) == []


class LyingSigner(MemorySigner):
    """A signer of the extra that does not check what it got."""

    async def sign_transaction(self, transaction: VersionedTransaction) -> SignedTransaction:
        """Sign another message."""
        signature = self._keypair.sign_message(b"another")
        return SignedTransaction("", signature, is_complete=True, transaction=transaction)


async def test_signatures_are_checked_even_if_the_extra_does_not() -> None:
    signer = KeychainSigner("lying", LyingSigner(KEYS), KEYS.pubkey())
    with pytest.raises(SignerUnavailableError, match="another message"):
        await sign_message(signer, built().signed_bytes, 1.0)


class AskedSigner(MemorySigner):
    """A signer that has to ask for its key, in vain the first times."""

    fails = 1
    asked = 0

    async def init(self) -> None:
        """Ask."""
        self.asked += 1
        if self.fails:
            self.fails -= 1
            raise ConnectionError(TOKEN)


async def test_a_back_end_is_asked_for_its_key_once_it_answers() -> None:
    asked = AskedSigner(KEYS)
    signer, message = KeychainSigner("asked", asked, KEYS.pubkey()), built().signed_bytes
    with pytest.raises(SignerUnavailableError, match=r"^keychain:asked: ConnectionError$") as failed:
        await sign_message(signer, message, 1.0)
    assert shown(failed.value, [TOKEN]) == []
    await asyncio.gather(*(sign_message(signer, message, 1.0) for _ in range(10)))
    assert asked.asked == 2


async def test_a_back_end_with_another_key_signs_nothing() -> None:
    other = Keypair()
    asked = AskedSigner(other)
    asked.fails = 0
    signer = KeychainSigner("asked", asked, KEYS.pubkey())
    for _ in range(2):
        with pytest.raises(
            SignerUnavailableError, match=f"has the key {other.pubkey()}, not {KEYS.pubkey()}"
        ):
            await sign_message(signer, built().signed_bytes, 1.0)


async def test_swaps_with_a_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        remote_signer(monkeypatch, LocalChain().wallet) as (vault, signer),
        venue_desk(signer=signer) as desk,
    ):
        swap = await desk.swap()
        for vault.kind, timeout_s in (
            ("down", 5.0),
            ("another message", 5.0),
            ("not JSON", 5.0),
            ("slow", 0.05),
        ):
            desk.venue._preparer._options = replace(OPTIONS, signer_timeout_s=timeout_s)
            with pytest.raises(VenueRefusedError) as refused:
                await desk.venue.prepare(swap)
            assert refused.value.failure.code is FailureCode.SIGNER_UNAVAILABLE
        assert desk.served.endpoints.calls()["sendTransaction"] == 0
        assert desk.venue.tracker.in_flight == 0
        vault.kind = "right"
        desk.venue._preparer._options = OPTIONS
        status = await desk.execute(await desk.venue.prepare(swap))
        assert status.state is TransactionState.LANDED


# --- Which are accepted


def test_every_back_end_of_the_extra_is_used_or_refused() -> None:
    assert {*BACK_ENDS, "crossmint", "memory"} == set(SUPPORTED_BACKENDS)


async def test_settings_are_removed_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLANA_SIGNER_TIMEOUT_S", "7")
    monkeypatch.setenv("SOLANA_SIGNER_HTTP_CLIENT", " ")
    signer = loaded(monkeypatch, "vault", **VAULT)
    assert signer.public_key == KEYS.pubkey()
    assert [name for name in os.environ if name.startswith("SOLANA_SIGNER_")] == ["SOLANA_SIGNER_TIMEOUT_S"]
    await signer.close()


@pytest.mark.parametrize(
    ("back_end", "reason"),
    [
        ("crossmint", "sends it itself"),
        ("memory", "use file: or env:"),
        ("nothing", "must be followed by one of aws-kms, "),
    ],
)
def test_a_back_end_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, back_end: str, reason: str) -> None:
    assert reason in refusal(monkeypatch, back_end, **VAULT)


@pytest.mark.parametrize(
    ("back_end", "setting"),
    [
        ("fordefi", "CHAIN"),
        ("fordefi", "PUSH_MODE"),
        ("fordefi", "FEE"),
        ("fireblocks", "USE_PROGRAM_CALL"),
    ],
)
def test_a_setting_with_which_a_back_end_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, back_end: str, setting: str
) -> None:
    name = f"SOLANA_SIGNER_{setting}"
    assert f"{name} must not be set: with it, {back_end} " in refusal(monkeypatch, back_end, **{name: "x"})


@pytest.mark.parametrize("kind", [ModifyingSigner, SendingSigner])
def test_a_signer_that_changes_or_sends_transactions(
    monkeypatch: pytest.MonkeyPatch, kind: type[object]
) -> None:
    changed = ModuleType("solana_keychain.vault")
    bases = (TransactionSigner, kind)
    vars(changed).update(VaultSigner=type("VaultSigner", bases, {}), VaultSignerConfig=VaultSignerConfig)
    monkeypatch.setitem(sys.modules, "solana_keychain.vault", changed)
    assert "it changes transactions or sends them" in refusal(monkeypatch, "vault", **VAULT)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SOLANA_SIGNER_PUBLIC_KEY": ""}, "SOLANA_SIGNER_PUBLIC_KEY, the wallet's public key, is missing"),
        ({"SOLANA_SIGNER_PUBLIC_KEY": "no key"}, "SOLANA_SIGNER_PUBLIC_KEY is not a public key"),
        (
            {"SOLANA_SIGNER_TOKEN": "", "SOLANA_SIGNER_KEY_NAME": ""},
            "needs SOLANA_SIGNER_TOKEN, SOLANA_SIGNER_",
        ),
        ({"SOLANA_SIGNER_TOKENS": TOKEN}, "SOLANA_SIGNER_TOKENS is not a setting of keychain:vault: SOLANA_"),
        (
            {"SOLANA_SIGNER_HTTP_CLIENT": TOKEN},
            "SOLANA_SIGNER_HTTP_CLIENT is not a setting of keychain:vault",
        ),
        ({"SOLANA_SIGNER_API_BASE_URL": f"http://{TOKEN}"}, "must begin with https://"),
        ({"SOLANA_SIGNER_API_BASE_URL": TOKEN}, "must begin with https://"),
        ({"SOLANA_SIGNER_TOKEN": "file:/nowhere"}, "SOLANA_SIGNER_TOKEN: the file /nowhere cannot be opened"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    assert reason in refusal(monkeypatch, "vault", **{**VAULT, **variables})


async def test_a_secret_can_be_in_a_file_that_nobody_else_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    setting = {"SOLANA_SIGNER_TOKEN": f"file:{file}"}
    assert "SOLANA_SIGNER_TOKEN: the file " in refusal(monkeypatch, "vault", **{**VAULT, **setting})
    file.chmod(0o600)
    async with remote_signer(monkeypatch, KEYS, **setting) as (_, signer):
        await sign_message(signer, built().signed_bytes, 5.0)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "solana_keychain.core", None)
    reason = refusal(monkeypatch, "vault", **VAULT)
    assert "needs the extra solana-keychain: pip install 'order-execution-engine[solana-keychain]'" in reason


def test_without_a_back_ends_packages_the_error_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "solana_keychain.aws_kms", None)
    assert "pip install 'solana-keychain[aws-kms]'" in refusal(monkeypatch, "aws-kms", **VAULT)


# --- No login shows


async def test_no_representation_and_no_copy_has_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = loaded(monkeypatch, "vault", **VAULT)
    for text in (repr(signer), str(signer), f"{[signer]}"):
        assert TOKEN not in text
        assert str(KEYS.pubkey()) in text
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copier(signer)
    await signer.close()
