"""One server's log: a file that the server appends to and whose size this process limits.

PostgreSQL's own rotation limits age but not size, and needs a process; Valkey has none. So both write to
standard error, and its file is truncated here. It is opened for appending, so the server continues at the
new end.
"""

import os
import shutil
from pathlib import Path

SIZE_LIMIT = 8 * 1024 * 1024  # bytes; the previous file has up to as many again
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
        """Begin a run: rotate the file if it is too long, and return a descriptor to append to it."""
        self.trim()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._run_began_at = os.fstat(descriptor).st_size
        return descriptor

    def trim(self) -> None:
        """If the file exceeds its limit, copy it to `.1`, over an older one, and truncate it.

        A line that is written between the two steps is lost.
        """
        if self.path.exists() and self.path.stat().st_size > SIZE_LIMIT:
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            os.truncate(self.path, 0)
            self._run_began_at = 0

    def tail(self) -> str:
        """Return the last lines of this run, for messages about why a server has ended."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._run_began_at, size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])
