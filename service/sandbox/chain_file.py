"""The file of a kept chain: records with lengths and checksums, which are only ever appended.

A crash may leave the last record incomplete: it is cut off, since nobody can have seen what it holds as
confirmed. Damage anywhere else is an error: what follows it cannot be believed.
"""

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

_HEAD = struct.Struct("<II")
_CHECK = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _CHECK.size


class ChainDataError(Exception):
    """A chain's data cannot be used; the message says which, and what to do."""


def read_records(path: Path) -> tuple[list[bytes], int]:
    """Return the complete records of a file, and where the last one ends.

    Raises:
        ChainDataError: The file is damaged.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    records: list[bytes] = []
    at = 0
    while at < len(data):
        head = data[at : at + _HEAD_BYTES]
        if len(head) < _HEAD_BYTES:
            break
        length, checksum = _HEAD.unpack_from(head)
        body = data[at + _HEAD_BYTES : at + _HEAD_BYTES + length]
        is_head = _CHECK.unpack_from(head, _HEAD.size)[0] == zlib.crc32(head[: _HEAD.size])
        if not is_head and not any(data[at + _HEAD_BYTES :]):
            break  # a file system may extend a file before it writes the data
        if is_head and len(body) < length:
            break
        if not is_head or zlib.crc32(body) != checksum:
            if is_head and at + _HEAD_BYTES + length == len(data):
                break
            raise ChainDataError(f"{path} is damaged at byte {at}: delete its folder to begin a new chain")
        records.append(body)
        at += _HEAD_BYTES + length
    return records, at


class ChainFile:
    """A file that records are appended to, by one thread at a time.

    Args:
        path: The file, which exists.
        size: Where its last complete record ends; what follows is cut off.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        # Not a bare descriptor: a thread that writes on after `close` would write into another file.
        self._file = path.open("r+b", buffering=0)
        self.size = size
        self._synced = -1
        self._cut()

    @classmethod
    def beside(cls, path: Path) -> "ChainFile":
        """Return a new file without records, which may take another one's place.

        Raises:
            OSError: It cannot be made.
        """
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        new.touch(0o600)
        return cls(new, 0)

    def append(self, body: bytes) -> None:
        """Write a record: it outlives this process at once, and the machine after ``sync``.

        Raises:
            OSError: It is not written, for want of room.
        """
        record = _framed(body)
        left = memoryview(record)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._cut()
            raise
        self.size += len(record)

    def append_all(self, bodies: Iterable[bytes]) -> None:
        """Write records; all of them outlive the machine.

        Raises:
            OSError: Not all are written.
        """
        for body in bodies:
            self.append(body)
        self.sync()

    def sync(self) -> None:
        """Return when everything that was written before outlives the machine; any thread may call it."""
        size = self.size
        if self._synced != size:
            os.fsync(self._file.fileno())
            self._synced = size

    def take_place(self, path: Path) -> None:
        """Be the file of this name from now on, in the place of another one.

        Raises:
            OSError: The other one is unchanged.
        """
        self._path = self._path.replace(path)

    def discard(self) -> None:
        """Close the file, and remove it."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self.size)
        self._file.seek(self.size)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder outlive the machine.

    Raises:
        OSError: It cannot be said.
    """
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _framed(body: bytes) -> bytes:
    head = _HEAD.pack(len(body), zlib.crc32(body))
    return head + _CHECK.pack(zlib.crc32(head)) + body
