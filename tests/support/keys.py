"""Creates API keys on a test's database, before or beside a service."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.api_keys import ApiKeys, NewKey
from tests.support.servers import TestServers


def create_keys(servers: TestServers, *keys: NewKey) -> list[str]:
    """Create keys, and return their tokens."""
    with ThreadPoolExecutor(1) as beside_any_loop:
        return beside_any_loop.submit(asyncio.run, _create(servers, keys)).result()


async def _create(servers: TestServers, keys: tuple[NewKey, ...]) -> list[str]:
    database = Database(servers.database_url, size=1, clock=Clock())
    try:
        await migrate(database)
        stored = ApiKeys(database, Clock())
        return [token for _key_id, token in [await stored.create(key) for key in keys]]
    finally:
        await database.close()
