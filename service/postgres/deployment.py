"""The deployment: all instances that share a database, and what they are called in Redis.

Redis may be shared with other deployments, under the same prefix, and Pub/Sub knows no database numbers. So
an id, made once in PostgreSQL, stands in every name there and in every message.
"""

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.queries import query

_CREATE = query("create_deployment")


class Deployment:
    """Knows the deployment's id, once it has been read.

    Args:
        prefix: What all names in Redis begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._id: str | None = None

    async def read(self, database: Database, clock: Clock) -> None:
        """Read the id; the first instance that does makes it.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        [(self._id,)] = await database.run(_CREATE, {"id": clock.new_instance_id()})

    @property
    def id(self) -> str:
        """The id, a UUID of 36 characters."""
        if self._id is None:
            raise RuntimeError("the deployment's id has not been read")
        return self._id

    def name(self, what: str) -> str:
        """Return what a key or a channel of this deployment is called."""
        return f"{self._prefix}:{self.id}:{what}"
