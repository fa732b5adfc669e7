"""Signers: which keys are accepted, what is signed, and that no key shows anywhere."""

import asyncio
import copy
import io
import json
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import TOKEN_PROGRAM
from service.chains.solana.builder import BuiltTransaction, compile_transaction, create_token_account
from service.chains.solana.programs.pool import TokenSide
from service.chains.solana.sending.signer import (
    InvalidSignerError,
    LocalSigner,
    SignerUnavailableError,
    load_signer,
    sign_message,
)
from tests.support.local_chain import BUDGET
from tests.support.solana_pools import made_up

KEYS = Keypair.from_seed(bytes(range(32)))
NUMBERS = list(bytes(KEYS))
SECRETS = (str(KEYS), json.dumps(NUMBERS)[1:40], bytes(KEYS).hex()[:32], repr(bytes(KEYS))[2:30])


def key_file(folder: Path, text: str | None = None, mode: int = 0o600) -> Path:
    file = folder / "id.json"
    file.write_text(json.dumps(NUMBERS) if text is None else text)
    file.chmod(mode)
    return file


def built() -> BuiltTransaction:
    wallet = KEYS.pubkey()
    token = TokenSide(made_up("mint"), TOKEN_PROGRAM, made_up("vault"))
    return compile_transaction([create_token_account(wallet, token)], wallet, BUDGET, Hash.new_unique())


class AnotherSigner:
    """A signer that is not in this process: it answers what the test says, or None: nothing."""

    def __init__(self, signature: bytes | None) -> None:
        self._signature = signature
        self.public_key = KEYS.pubkey()

    async def sign(self, _message: bytes) -> bytes:
        if self._signature is None:
            await asyncio.Event().wait()
            raise AssertionError
        return self._signature

    async def close(self) -> None:
        """Have no connections."""


# --- What is signed


async def test_the_transaction_is_our_message_with_a_valid_signature() -> None:
    message = built()
    raw = await sign_message(LocalSigner(KEYS), message.signed_bytes, 1.0)
    assert raw[: len(message.signed_bytes)] == message.signed_bytes
    assert raw == bytes(VersionedTransaction(message.message, [KEYS]))
    VersionedTransaction.from_bytes(raw).verify_and_hash_message()


async def test_a_signature_of_another_message_is_refused() -> None:
    other = bytes(KEYS.sign_message(built().signed_bytes))
    with pytest.raises(SignerUnavailableError, match="another message"):
        await sign_message(AnotherSigner(other), built().signed_bytes, 1.0)


async def test_a_signature_with_another_key_is_refused() -> None:
    message = built().signed_bytes
    with pytest.raises(SignerUnavailableError, match="another key"):
        await sign_message(AnotherSigner(bytes(Keypair().sign_message(message))), message, 1.0)


@pytest.mark.parametrize("answer", [b"", b"x", bytes(65)])
async def test_what_is_no_signature_is_refused(answer: bytes) -> None:
    with pytest.raises(SignerUnavailableError, match="did not return a signature"):
        await sign_message(AnotherSigner(answer), built().signed_bytes, 1.0)


async def test_a_signer_that_does_not_answer_is_not_waited_for_without_end() -> None:
    with pytest.raises(SignerUnavailableError, match="did not answer within"):
        await sign_message(AnotherSigner(None), built().signed_bytes, 0.01)


# --- Which keys are accepted


def test_a_key_file_is_read(tmp_path: Path) -> None:
    file = key_file(tmp_path)
    assert load_signer(f"file:{file}").public_key == KEYS.pubkey()
    file.chmod(0o400)
    assert load_signer(f"file:{file}").public_key == KEYS.pubkey()


def test_a_key_file_may_be_named_from_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = key_file(tmp_path)
    assert load_signer(f"file:~/{file.name}").public_key == KEYS.pubkey()


def test_a_variable_is_read_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET", json.dumps(NUMBERS))
    assert load_signer("env:WALLET").public_key == KEYS.pubkey()
    assert "WALLET" not in os.environ
    with pytest.raises(InvalidSignerError, match="the variable WALLET does not hold a key pair"):
        load_signer("env:WALLET")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700, 0o4600])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(InvalidSignerError, match=f"has the mode {mode:04o}; it must be 0600"):
        load_signer(f"file:{key_file(tmp_path, mode=mode)}")


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(key_file(tmp_path))
    os.mkfifo(pipe, 0o600)
    for path, reason in (
        (link, "cannot be opened"),
        (pipe, "not a regular file"),
        (tmp_path, "not a regular"),
    ):
        with pytest.raises(InvalidSignerError, match=reason):
            load_signer(f"file:{path}")


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = key_file(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(InvalidSignerError, match="belongs to another user"):
        load_signer(f"file:{file}")


@pytest.mark.parametrize(
    "setting", ["", "file:", "env:", "ledger:1", "/path/id.json", "file:/nowhere/id.json", "file:\0"]
)
def test_a_setting_that_names_no_key_is_refused(setting: str) -> None:
    with pytest.raises(InvalidSignerError):
        load_signer(setting)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{}",
        "[]",
        "[" * 100_000,
        json.dumps(NUMBERS[:32]),
        json.dumps([*NUMBERS, 0]),
        json.dumps([*NUMBERS[:63], 256]),
        json.dumps([*NUMBERS[:63], -1]),
        json.dumps([*NUMBERS[:63], 1.0]),
        json.dumps([*NUMBERS[:63], True]),
        # The public key of another secret key: signatures made with such a pair give the secret away.
        json.dumps([*NUMBERS[:32], *bytes(Keypair().pubkey())]),
        str(KEYS),
        "\udcff",
    ],
)
def test_what_is_no_consistent_key_pair_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "id.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    file.chmod(0o600)
    with pytest.raises(InvalidSignerError, match="does not hold a key pair") as refused:
        load_signer(f"file:{file}")
    assert not shown(refused.value)


# --- No key shows


def shown(error: BaseException, secrets: Sequence[str] = SECRETS) -> list[str]:
    """Return the secrets in an error's traceback with all local variables, and in the errors behind it."""
    text = io.StringIO()
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        formatted = traceback.TracebackException.from_exception(current, capture_locals=True)
        # Not of this test's own frames, whose locals have the key.
        formatted.stack = traceback.StackSummary.from_list(
            [frame for frame in formatted.stack if "/service/" in frame.filename]
        )
        print(*formatted.format(chain=False), vars(current), repr(current), file=text)
        current = current.__context__
    return [secret for secret in secrets if secret in text.getvalue()]


def test_no_representation_shows_the_key() -> None:
    signer = LocalSigner(KEYS)
    for text in (repr(signer), str(signer), f"{signer}", f"{[signer]}", f"{signer!r:>200}"):
        assert not [secret for secret in SECRETS if secret in text]
        assert str(KEYS.pubkey()) in text


def test_no_copy_can_be_made() -> None:
    signer = LocalSigner(KEYS)
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copier(signer)
    with pytest.raises(TypeError):
        vars(signer)


@pytest.mark.parametrize("broken", ["{}]", "{},", "{}", "[{}]"])
def test_no_error_shows_what_was_read(tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = broken.format(json.dumps(NUMBERS) if broken != "{}" else json.dumps(NUMBERS)[:-8])
    monkeypatch.setenv("WALLET", text)
    for setting in (f"file:{key_file(tmp_path, text)}", "env:WALLET"):
        with pytest.raises(InvalidSignerError) as refused:
            load_signer(setting)
        assert not shown(refused.value)


def test_a_process_with_a_key_leaves_no_core_dump(tmp_path: Path) -> None:
    code = (
        "import os, resource\n"
        "from service.chains.solana.sending.signer import load_signer\n"
        f"load_signer('file:{key_file(tmp_path)}')\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "os.abort()\n"
    )
    paths = {"PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=paths, check=False)
    assert ended.returncode < 0
    assert [file.name for file in tmp_path.iterdir()] == ["id.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the flag")
def test_a_process_with_a_key_is_not_dumpable(tmp_path: Path) -> None:
    code = (
        "import ctypes\n"
        "from service.chains.solana.sending.core_dumps import forbid_core_dumps\n"
        "assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1\n"
        "assert forbid_core_dumps() == []\n"
        "assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(Path.cwd())})
