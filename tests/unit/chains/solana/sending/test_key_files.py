"""A new key: in a file that only its owner can read, and never in place of another one."""

import os
import stat
from pathlib import Path

import pytest

from service.chains.solana.sending import key_files
from service.chains.solana.sending.key_files import write_new_key
from service.chains.solana.sending.signer import load_signer


@pytest.fixture(autouse=True)
def stay_dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_files, "forbid_core_dumps", list)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_signer_takes_the_file_whatever_the_umask(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.chains.solana.sending.signer.forbid_core_dumps", list)
    file = tmp_path / "id.json"
    before = os.umask(umask)
    try:
        address = write_new_key(file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(load_signer(f"file:{file}").public_key) == address
    assert address != write_new_key(tmp_path / "other.json")


def test_no_file_and_no_link_is_overwritten(tmp_path: Path) -> None:
    file, link = tmp_path / "id.json", tmp_path / "link.json"
    file.write_text("a key")
    link.symlink_to(tmp_path / "nowhere.json")
    for each in (file, link):
        with pytest.raises(FileExistsError):
            write_new_key(each)
    assert file.read_text() == "a key"
    assert not (tmp_path / "nowhere.json").exists()


def test_half_a_key_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_new_key(tmp_path / "id.json")
    assert list(tmp_path.iterdir()) == []
