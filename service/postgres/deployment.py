"""The deployment: all instances that share a database, and the names of its keys and channels in Redis.

Redis may be shared with other deployments, with the same prefix, and Pub/Sub ignores database numbers. So an
id, made once in PostgreSQL, is part of every name there and of every message.
"""

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.queries import query

_CREATE = query("create_deployment")


class Deployment:
    """The deployment's id, available after ``read``.

    Args:
        prefix: The prefix of all names in Redis.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._id: str | None = None

    async def read(self, database: Database, clock: Clock) -> None:
        """Read the id; the first instance creates it.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        [(self._id,)] = await database.run(_CREATE, {"id": clock.new_instance_id()})

    @property
    def id(self) -> str:
        """The id, a UUID of 36 characters."""
        if self._id is None:
            raise RuntimeError("the deployment's id has not been read")
        return self._id

    def name(self, what: str) -> str:
        """Return the full name of a key or a channel of this deployment."""
        return f"{self._prefix}:{self.id}:{what}"
