"""The servers that a command runs on: those of the settings, or embedded ones.

``use_servers`` provides them while a command runs; ``run_on_database`` runs one that needs only PostgreSQL.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from service import embedded
from service.clock import Clock
from service.parts import Servers
from service.postgres.database import Database
from service.settings import Settings

T = TypeVar("T")

log = logging.getLogger("service")

_WATCH_SERVERS_EVERY_S = 1.0
_RESTART_PAUSE_S = 5.0


class ServersInUse:
    """The servers in use, and the embedded ones among them, which this process supervises.

    Attributes:
        servers: Their addresses.
        data_dir: The folder of the embedded ones; None if there are none.

    Args:
        servers: Their addresses.
        own: The embedded ones.
        data_dir: Their folder.
    """

    def __init__(self, servers: Servers, own: embedded.EmbeddedServers | None, data_dir: Path) -> None:
        self.servers = servers
        self.data_dir = data_dir if own is not None else None
        self._own = own

    async def watch(self, clock: Clock) -> None:
        """Restart an embedded server that has died."""
        while self._own is not None:
            await clock.sleep(_WATCH_SERVERS_EVERY_S)
            what = self._own.died()
            if what is not None:
                log.error("%s; restarting it", what)
                try:
                    self._own.restart_dead()
                except embedded.EmbeddedServerError as error:
                    log.error("%s", error)  # noqa: TRY400 - the message says everything
                    await clock.sleep(_RESTART_PAUSE_S)


@contextmanager
def use_servers(loaded: Settings, *, with_redis: bool = True) -> Iterator[ServersInUse]:
    """Use the servers of the settings, and start embedded ones for those that are not set."""
    postgres, redis = loaded.database_url is None, loaded.redis_url is None and with_redis
    own = embedded.start(loaded.data_dir, postgres=postgres, redis=redis) if postgres or redis else None
    try:
        servers = Servers(
            database_url=loaded.database_url or (own.database_url if own else None) or "",
            redis_url=loaded.redis_url or (own.redis_url if own else None) or "",
            # The lock on the data folder excludes all other processes from the embedded PostgreSQL.
            alone=postgres,
        )
        yield ServersInUse(servers, own, loaded.data_dir)
    finally:
        if own is not None:
            own.stop()


def run_on_database(loaded: Settings, run: Callable[[Database, Clock], Coroutine[None, None, T]]) -> T:
    """Run a command on the database, whether or not the service is running on it."""

    async def run_on(url: str) -> T:
        clock = Clock()
        database = Database(url, size=1, clock=clock)
        try:
            return await run(database, clock)
        finally:
            await database.close()

    try:
        with use_servers(loaded, with_redis=False) as servers:
            return asyncio.run(run_on(servers.servers.database_url))
    except embedded.DataDirInUseError as in_use:
        if in_use.database_url is None:
            raise
        return asyncio.run(run_on(in_use.database_url))
