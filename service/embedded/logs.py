"""The log of one server: a file that the server appends to and that this process keeps bounded.

PostgreSQL's own rotation is bounded in time but not in size, and costs a process; Valkey has none.
So both write to standard error, and the file behind it is cut here. The server opens it for
appending, and so goes on at the new end.
"""

import os
import shutil
from pathlib import Path

SIZE_LIMIT = 8 * 1024 * 1024  # bytes; as many again are kept in the file before it
TAIL_BYTES = 4096
TAIL_LINES = 15


class ServerLog:
    """One server's log file.

    Args:
        path: The file; it is created when the server is first started.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run_began_at = 0

    def open(self) -> int:
        """Begin a run: cut the file if it is too long, and return a descriptor to append to it."""
        self.trim()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._run_began_at = os.fstat(descriptor).st_size
        return descriptor

    def trim(self) -> None:
        """Set the file aside as `.1`, over an older one, once it has outgrown its limit.

        A line that is written between the copy and the cut is lost.
        """
        if self.path.exists() and self.path.stat().st_size > SIZE_LIMIT:
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            os.truncate(self.path, 0)
            self._run_began_at = 0

    def tail(self) -> str:
        """Return the last lines of this run, for a message that says why a server has ended."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._run_began_at, size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])
