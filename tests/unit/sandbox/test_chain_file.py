"""The file of a kept chain: what a crash leaves of it, and what damage is."""

from pathlib import Path

import pytest

from service.sandbox.chain_file import ChainDataError, ChainFile, read_records

BODIES = [b"first", b"", b"third" * 100]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chain.log"


def write_records(path: Path, bodies: list[bytes]) -> int:
    """Write a whole file, and return its size."""
    file = ChainFile.beside(path)
    file.append_all(bodies)
    file.take_place(path)
    file.close()
    return file.size


def test_what_is_appended_follows_what_was_written(path: Path) -> None:
    size = write_records(path, BODIES)
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (size, 0o600)
    file = ChainFile(path, size)
    file.append(b"fourth")
    file.sync()
    file.close()
    assert read_records(path) == ([*BODIES, b"fourth"], path.stat().st_size)
    write_records(path, BODIES)
    assert read_records(path) == (BODIES, size)


def test_a_torn_record_is_cut_off_wherever_it_is_torn(path: Path) -> None:
    size = write_records(path, BODIES)
    whole = path.read_bytes()
    before = write_records(path, BODIES[:2])
    for end in range(before, size):
        for rest in (b"", bytes(size - end)):
            path.write_bytes(whole[:end] + rest)
            records, found = read_records(path)
            if end > before + 12 or not rest:
                assert (records, found) == (BODIES[:2], before)
    file = ChainFile(path, before)
    file.append(b"another")
    file.close()
    assert read_records(path)[0] == [*BODIES[:2], b"another"]


def test_damage_before_the_last_record_is_no_torn_record(path: Path) -> None:
    size = write_records(path, BODIES)
    whole = path.read_bytes()
    last = size - len(BODIES[-1]) - 12
    for place in range(last):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ChainDataError, match="is damaged at byte"):
            read_records(path)


def test_a_file_that_does_not_take_the_place_of_another_leaves_nothing(path: Path) -> None:
    size = write_records(path, BODIES)
    file = ChainFile.beside(path)
    file.append(b"other")
    assert read_records(path) == (BODIES, size)
    file.discard()
    assert list(path.parent.iterdir()) == [path]
