"""Valkey: its settings, readiness, and handling of unreadable data."""

import logging
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from service.embedded.binaries import valkey_server
from service.embedded.errors import EmbeddedServerError
from service.embedded.process import spawn
from service.embedded.server import Server

_log = logging.getLogger(__name__)

OPTIONS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "supervised": "no",
    "logfile": "",  # standard output is the log file
    "loglevel": "notice",
    "databases": "1",
    "maxclients": "1000",
    "maxmemory-policy": "noeviction",  # job messages must not be evicted
    # The append-only file is enough to restore: it is newer than any snapshot would be.
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "auto-aof-rewrite-min-size": "16mb",
}


class ValkeyServer(Server):
    """A Valkey server on `data_dir/valkey`."""

    name: ClassVar[str] = "Valkey"
    folder_name: ClassVar[str] = "valkey"
    socket_name: ClassVar[str] = "valkey.sock"
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM,)

    @property
    def url(self) -> str:
        """The URL for redis-py."""
        return f"unix://{quote(str(self.socket))}"

    def is_ready(self) -> bool:
        """Return whether it answers a PING: while it loads its data, the answer is an error."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
            except OSError:
                return False

    def wait_ready(self, limit_s: float) -> bool:
        """Wait until it is ready, like `Server.wait_ready`; if it fails, start it once more with empty data.

        Redis only wakes workers, and the orders are in PostgreSQL: lost messages cost a sweep of the store,
        which is better than a service that does not start.
        """
        try:
            return super().wait_ready(limit_s)
        except EmbeddedServerError as failure:
            aside = self.folder.with_name(f"{self.folder.name}.unreadable")
            shutil.rmtree(aside, ignore_errors=True)
            self.folder.rename(aside)
            try:
                self.launch(predecessor_limit_s=limit_s)
                ready = super().wait_ready(limit_s)
            except EmbeddedServerError:  # the data was not the cause
                self._put_back(aside)
                raise
            _log.warning("Valkey could not load its data (moved to %s); starting empty: %s", aside, failure)
            return ready

    def _put_back(self, aside: Path) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        aside.rename(self.folder)

    def _spawn(self, presence: int) -> subprocess.Popen[bytes]:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        options = OPTIONS | {"dir": str(self.folder), "unixsocket": str(self.socket)}
        command = [str(valkey_server())]
        for name, value in options.items():
            command += [f"--{name}", value]
        return spawn(
            command,
            log=self.log,
            death_signal=self.stop_signals[0],
            user=self.user,
            inherit=(presence,),
        )
