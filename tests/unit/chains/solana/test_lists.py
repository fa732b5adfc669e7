"""Pools that are added to a list: what is there stays, and no reader sees a part of it."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from service.chains.solana.lists import InvalidListError, add_pools, read_pools
from service.chains.solana.programs.registry import MAINNET

FIRST, SECOND = (str(Pubkey.from_bytes(bytes([number]) * 32)) for number in (1, 2))


def test_a_list_is_made_with_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "solana" / "pools.toml"
    assert add_pools(file, MAINNET, [("raydium_cpmm", FIRST), ("meteora_dlmm", SECOND)]) == 2
    assert [(each.program, str(each.address)) for each in read_pools(file, MAINNET)] == [
        (MAINNET.raydium_cpmm, FIRST),
        (MAINNET.meteora_dlmm, SECOND),
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_what_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    before = f'# Mine.\n[[pool]]\nprogram = "meteora_dlmm" # the best\naddress = "{FIRST}"'
    file.write_text(before)
    file.chmod(0o640)
    assert add_pools(file, MAINNET, [("raydium_cpmm", FIRST), ("raydium_cpmm", SECOND)]) == 1
    assert file.read_text() == f'{before}\n\n[[pool]]\nprogram = "raydium_cpmm"\naddress = "{SECOND}"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    number = file.stat().st_ino
    assert add_pools(file, MAINNET, [("raydium_cpmm", SECOND)]) == 0
    assert file.stat().st_ino == number


def test_a_list_of_comments_only_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text("# Pools.\n")
    assert add_pools(file, MAINNET, [("raydium_cpmm", FIRST)]) == 1
    assert file.read_text().startswith("# Pools.\n\n[[pool]]\n")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "pools.toml"
    link.symlink_to(file)
    assert add_pools(link, MAINNET, [("raydium_cpmm", FIRST)]) == 1
    assert link.is_symlink()
    assert len(read_pools(file, MAINNET)) == 1


@pytest.mark.parametrize("content", [b"[[pool]]\n", b"x", b"\xff", b"[[token]]\n"])
def test_a_file_with_a_fault_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pools.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidListError, match=str(file)):
        add_pools(file, MAINNET, [("raydium_cpmm", FIRST)])
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_if_it_cannot_be_replaced_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pools.toml"

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InvalidListError, match="No space left on device"):
        add_pools(file, MAINNET, [("raydium_cpmm", FIRST)])
    assert list(tmp_path.iterdir()) == []


def test_two_that_add_at_once_both_do(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    addresses = [str(Pubkey.from_bytes(bytes([number]) * 32)) for number in range(1, 21)]
    with ThreadPoolExecutor(4) as threads:
        added = threads.map(lambda each: add_pools(file, MAINNET, [("raydium_cpmm", each)]), addresses)
        assert sum(added) == 20
    assert {str(each.address) for each in read_pools(file, MAINNET)} == set(addresses)
    assert list(tmp_path.iterdir()) == [file]
