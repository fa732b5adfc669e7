"""A file system so small that a test can fill it."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_SIZE = "256m"
_CHUNK = 1 << 20


class SmallDisk:
    """A mounted file system, and the ballast that leaves no room on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all room that is left, to the last page."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (_CHUNK, 4_096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def clear(self) -> None:
        """Remove the ballast."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mount a file system of 256 MB in memory; skip the test where that is not allowed."""
    with tempfile.TemporaryDirectory(prefix="oee-disk-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL's user must enter it
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=755", "tmpfs", folder]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a small file system can be mounted by root only, on Linux")
        try:
            yield SmallDisk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
