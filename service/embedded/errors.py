"""What can go wrong with the embedded servers.

    EmbeddedServerError
        DataDirInUseError

Each message says what happened and what to do about it; it is shown to the person who started the
service.
"""

from pathlib import Path

OWN_SERVERS_HINT = "Servers of your own can be used instead: set DATABASE_URL and REDIS_URL."


class EmbeddedServerError(Exception):
    """An embedded server could not be started, or started again."""


class DataDirInUseError(EmbeddedServerError):
    """Another process holds the data folder.

    Attributes:
        pid: The process that holds it; None when it has not written its name yet.
        database_url: Where that process's PostgreSQL listens, None when it runs none or is still
            starting.
        redis_url: The same for its Valkey.
    """

    def __init__(
        self, data_dir: Path, *, pid: int | None, database_url: str | None, redis_url: str | None
    ) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"DATA_DIR {data_dir} is in use by {holder}, and one process at a time can run its "
            f"servers. End that process, or set DATA_DIR to another folder. {OWN_SERVERS_HINT}"
        )
        self.pid = pid
        self.database_url = database_url
        self.redis_url = redis_url
