"""The rate limit: how many orders may start per minute, over all processes."""

from dataclasses import dataclass

from service.postgres.database import Database
from service.postgres.queries import query

_SET_RATE_LIMIT = query("set_rate_limit")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``starts`` orders start in any ``window_ms``, by PostgreSQL's clock; 0 starts: no limit."""

    starts: int
    window_ms: int = 60_000

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of statements that apply the limit."""
        return {"rate_limit": self.starts, "window_ms": self.window_ms}

    async def apply(self, database: Database) -> None:
        """Apply this limit to every process that uses the database."""
        if self.starts:
            await database.run(_SET_RATE_LIMIT, self.parameters)
