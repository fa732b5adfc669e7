"""Migrates the schema: numbered files, forward only, each applied once and never changed."""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg2.errors

from service.postgres.database import Database
from service.postgres.queries import SQL_FOLDER
from service.postgres.session import Session

log = logging.getLogger(__name__)

FOLDER = SQL_FOLDER / "migrations"

# The advisory lock's number, "OEE" in ASCII and one: unlikely to be used by anything else in the database.
_LOCK = 0x4F4545_01

# A process that dies while it waits must not migrate later: PostgreSQL checks, if its operating system
# allows, whether the client is still connected.
_TAKE_LOCK = f"""
DO $$ BEGIN
    PERFORM set_config('client_connection_check_interval', '500', true);
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
SELECT pg_advisory_xact_lock({_LOCK});
"""
_APPLIED = "SELECT version, checksum FROM schema_migrations ORDER BY version"
_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The schema cannot be migrated; the message says why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``sql/migrations``."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, to detect a change after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(folder: Path = FOLDER) -> list[Migration]:
    """Read the migrations in order.

    Raises:
        MigrationError: A file's name has no number, or the numbers are not 1, 2, 3 ...
    """
    migrations = []
    for expected, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        match = re.fullmatch(r"([0-9]{4})_([a-z0-9_]+)\.sql", path.name)
        if match is None or int(match[1]) != expected:
            raise MigrationError(f"{path.name}: expected the name {expected:04d}_<what>.sql")
        migrations.append(Migration(expected, match[2], path.read_text(encoding="utf-8")))
    return migrations


async def migrate(database: Database, migrations: list[Migration] | None = None) -> list[Migration]:
    """Apply the missing migrations and return them.

    Processes that start at the same time are serialised by an advisory lock, which ends with its transaction.
    Each file and its row in ``schema_migrations`` are one transaction.

    Raises:
        MigrationError: An applied file has changed, or the database is newer than this program.
        UnavailableError: PostgreSQL cannot be reached.
        psycopg2.Error: A migration failed and was rolled back.
    """
    wanted = load() if migrations is None else migrations
    # Waiting for the lock, or a migration, may take longer than the statement time-out.
    session = await database.connect(unhurried=True)
    try:
        await _prepare(session, database.schema)
        done = []
        while missing := _missing(wanted, dict(await session.run(_APPLIED))):
            if await _apply(session, missing[0]):
                done.append(missing[0])
        return done
    finally:
        session.close()


async def migrate_if_empty(database: Database) -> None:
    """Create the schema in an empty database.

    Raises:
        MigrationError: The database is of another version: an older one may be in use by an older service.
        UnavailableError: PostgreSQL cannot be reached.
    """
    session = await database.connect()
    try:
        await _prepare(session, database.schema)
        applied: dict[int, str] = dict(await session.run(_APPLIED))
    finally:
        session.close()
    if not applied:
        await migrate(database)
    elif _missing(load(), applied):
        raise MigrationError(
            "the database is of an older version: stop the service, and run 'python -m service migrate'"
        )


async def pending(database: Database) -> list[Migration]:
    """Return the migrations that a start would apply; nothing is changed.

    Raises:
        MigrationError: An applied file has changed, or the database is newer than this program.
        UnavailableError: PostgreSQL cannot be reached.
    """
    session = await database.connect()
    try:
        [(found,)] = await session.run("SELECT to_regclass('schema_migrations') IS NOT NULL")
        return _missing(load(), dict(await session.run(_APPLIED)) if found else {})
    finally:
        session.close()


async def _prepare(session: Session, schema: str) -> None:
    """Create the schema and the table of migrations if missing; the check needs no CREATE permission."""
    if not await session.run("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)):
        await session.run(f"{_TAKE_LOCK}CREATE SCHEMA IF NOT EXISTS {session.quote_name(schema)}")
    [(found,)] = await session.run("SELECT to_regclass('schema_migrations') IS NOT NULL")
    if not found:
        await session.run(_TAKE_LOCK + _CREATE_TABLE)


def _missing(wanted: list[Migration], applied: dict[int, str]) -> list[Migration]:
    newest = max(applied, default=0)
    if newest > len(wanted):
        raise MigrationError(f"the database is at version {newest}, newer than this program's {len(wanted)}")
    for migration in wanted[:newest]:
        if applied.get(migration.version) != migration.checksum:
            raise MigrationError(f"{migration.version:04d}_{migration.name} has changed since it was applied")
    return wanted[newest:]


async def _apply(session: Session, migration: Migration) -> bool:
    """Apply a migration; return False if another process has applied it in the meantime."""
    log.info("applying migration %04d_%s", migration.version, migration.name)
    # Several statements in one message are one transaction (PostgreSQL's simple query protocol). The row
    # comes first: if another process has inserted it in the meantime, it fails and the rest is not executed.
    note = session.mogrify(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s);\n",
        (migration.version, migration.name, migration.checksum),
    )
    try:
        await session.run(_TAKE_LOCK + note + migration.sql)
    except psycopg2.errors.UniqueViolation as error:
        if error.diag.table_name != "schema_migrations":
            raise
        return False
    return True
