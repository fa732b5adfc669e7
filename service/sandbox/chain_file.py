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
            raise ChainDataError(f"{path} is damaged at byte {at}: delete it to begin a new chain")
        records.append(body)
        at += _HEAD_BYTES + length
    return records, at


class ChainFile:
    """A file that records are appended to.

    Args:
        path: The file, which exists.
        size: Where its last complete record ends; what follows is cut off.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = size
        self._synced = -1
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)

    def append(self, body: bytes) -> None:
        """Write a record: it outlives this process at once, and the machine after ``sync``.

        Raises:
            OSError: It is not written, for want of room.
        """
        record = _framed(body)
        try:
            _write(self._descriptor, record)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(record)

    def sync(self) -> None:
        """Return when everything that was written before outlives the machine; any thread may call it."""
        size = self.size
        if self._synced != size:
            os.fsync(self._descriptor)
            self._synced = size

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def write_records(path: Path, bodies: Iterable[bytes]) -> int:
    """Write a whole file, in the place of another one or not at all; return its size.

    Raises:
        OSError: It cannot be written; the other one is unchanged.
    """
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        new.chmod(0o600)
        size = sum(file.write(_framed(body)) for body in bodies)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def _framed(body: bytes) -> bytes:
    head = _HEAD.pack(len(body), zlib.crc32(body))
    return head + _CHECK.pack(zlib.crc32(head)) + body


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
