"""PostgreSQL with a clock that a test moves, by libfaketime; no other process sees it."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from service.embedded import postgres
from service.embedded.access import postgres_user
from service.embedded.binaries import postgres_folder
from tests.support.own_servers import OwnServers

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")


class MovedServers(OwnServers):
    """Both servers, with PostgreSQL's clock ahead of this machine's by ``move``'s seconds."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._offset = folder / "offset"
        self.move(0)
        real = postgres_folder(postgres_user(folder / "postgres-data"))
        (folder / "initdb").symlink_to(real / "initdb")
        program = folder / "postgres"
        program.write_text(
            f"#!/bin/sh\nexport LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={self._offset}"
            " FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"
            f'exec {real}/postgres "$@"\n'
        )
        program.chmod(0o755)
        with patch.object(postgres, "postgres_folder", lambda _user: folder):
            super().__init__()

    def move(self, seconds: int) -> None:
        """Set how far PostgreSQL's clock is ahead of this machine's."""
        new = self._offset.with_name("new")
        new.write_text(f"{seconds:+d}s\n")
        new.chmod(0o644)
        new.rename(self._offset)


@contextlib.contextmanager
def moved_servers() -> Iterator[MovedServers]:
    """Start the servers; skip the test if libfaketime is not installed."""
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern.removeprefix("/"))]
    if not found:
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    with tempfile.TemporaryDirectory(prefix="oee-faked-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        servers = MovedServers(folder, found[0])
        try:
            yield servers
        finally:
            servers.stop()
