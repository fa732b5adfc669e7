"""PgBouncer in front of a test's PostgreSQL, if it is installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.support.servers import TestServers

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_START_LIMIT_S = 20.0


class PgBouncer:
    """A pooler on a port of 127.0.0.1, for one database.

    Args:
        servers: The servers with the PostgreSQL.
        settings: Settings of its section ``[pgbouncer]``.
    """

    def __init__(self, servers: TestServers, **settings: str) -> None:
        assert PROGRAM is not None
        database = urlsplit(servers.database_url)
        self._folder = tempfile.TemporaryDirectory(prefix="oee-pool-")
        Path(self._folder.name).chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        lines = [
            "[databases]",
            f"{database.path[1:]} = host={parse_qs(database.query)['host'][0]} port=5432 user=postgres",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in (self._settings() | settings).items()),
        ]
        config = Path(self._folder.name) / "pgbouncer.ini"
        config.write_text("\n".join(lines))
        config.chmod(0o644)
        self._log = (Path(self._folder.name) / "log").open("w+b")
        self._process = subprocess.Popen([PROGRAM, str(config)], stdout=self._log, stderr=self._log)
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}{database.path}"

    def _settings(self) -> dict[str, str]:
        # It does not run as root.
        as_root = {"user": pwd.getpwnam("nobody").pw_name} if os.geteuid() == 0 else {}
        return {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "server_tls_sslmode": "disable",
            **as_root,
        }

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    @property
    def log(self) -> str:
        """Its log so far."""
        return (Path(self._folder.name) / "log").read_text(errors="replace")
