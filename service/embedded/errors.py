"""The errors of the embedded servers.

    EmbeddedServerError
        DataDirInUseError

Each message says what happened and what to do about it; it is shown to the user who started the service.
"""

from pathlib import Path

OWN_SERVERS_HINT = "To use your own servers instead, set DATABASE_URL and REDIS_URL."


class EmbeddedServerError(Exception):
    """An embedded server could not be started or restarted."""


class DataDirInUseError(EmbeddedServerError):
    """Another process uses the data folder.

    Attributes:
        pid: That process; None if it has not recorded its id yet.
        database_url: The URL of that process's PostgreSQL; None if it runs none or is still starting.
        redis_url: The same for its Valkey.
    """

    def __init__(
        self, data_dir: Path, *, pid: int | None, database_url: str | None, redis_url: str | None
    ) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"DATA_DIR {data_dir} is in use by {holder}, and only one process at a time can use it. "
            f"Stop that process, or set DATA_DIR to another folder. {OWN_SERVERS_HINT}"
        )
        self.pid = pid
        self.database_url = database_url
        self.redis_url = redis_url
