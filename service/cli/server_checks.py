"""Checks of what the service runs on: PostgreSQL, Redis, the data folder.

Nothing is started or changed. Without a URL it is checked whether a server of the service's own could start.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg2

from service.chains.inspection import Check
from service.clock import Clock
from service.embedded import EmbeddedServerError
from service.embedded.binaries import postgres_folder, valkey_server
from service.postgres.database import Database, UnavailableError
from service.postgres.migrations import MigrationError, pending
from service.redis.link import REDIS_ERRORS, close, connect
from service.settings import Settings

_GIB = 2**30
_REDIS_TIMEOUT_S = 5.0


async def server_checks(loaded: Settings, clock: Clock) -> AsyncIterator[Check]:
    """Check the servers of the settings, or what the embedded ones need."""
    if loaded.database_url is None:
        yield _embedded("postgresql", lambda: postgres_folder(None), "DATABASE_URL")
    else:
        yield await _postgres(loaded.database_url, clock)
    if loaded.redis_url is None:
        yield _embedded("redis", valkey_server, "REDIS_URL")
    else:
        yield await _redis(loaded.redis_url)
    if loaded.database_url is None or loaded.redis_url is None:
        yield _folder(loaded.data_dir)


async def _postgres(url: str, clock: Clock) -> Check:
    database = Database(url, size=1, clock=clock)
    try:
        left = await pending(database)
    except (UnavailableError, MigrationError, psycopg2.Error) as error:
        remedy = "check DATABASE_URL and that PostgreSQL 15 or newer runs there"
        return Check.failed("postgresql", "", str(error), remedy)
    finally:
        await database.close()
    migrations = f"the next start applies {len(left)} migrations" if left else "its schema is up to date"
    return Check.ok("postgresql", "", f"DATABASE_URL answers; {migrations}")


async def _redis(url: str) -> Check:
    client = connect(url)
    try:
        async with asyncio.timeout(_REDIS_TIMEOUT_S):
            await client.ping()
    except REDIS_ERRORS as error:
        remedy = "check REDIS_URL; until then instances do not share the work at once"
        return Check.warning("redis", "", str(error) or "no answer in time", remedy)
    finally:
        await close(client)
    return Check.ok("redis", "", "REDIS_URL answers")


def _embedded(name: str, program: Callable[[], Path], setting: str) -> Check:
    try:
        program()
    except EmbeddedServerError as error:
        return Check.failed(name, "", str(error), f"set {setting}")
    return Check.ok(name, "", f"{setting} is not set: the service starts one of its own")


def _folder(folder: Path) -> Check:
    """Check that the data folder can be written, or made; the service makes it at its start."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"{folder} cannot be written by this user"
        return Check.failed("data folder", "", found, "change its owner, or set DATA_DIR")
    free = shutil.disk_usage(there).free
    told = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < _GIB:
        return Check.warning("data folder", "", told, "free some space: PostgreSQL stops without it")
    return Check.ok("data folder", "", told)
