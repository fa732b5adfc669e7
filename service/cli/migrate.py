"""The command ``python -m service migrate``: migrates the schema without starting the service."""

import argparse

from service.cli.servers import run_on_database
from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.settings import Settings


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "migrate the database's schema without starting the service"
    commands.add_parser("migrate", help=what, description=what).set_defaults(run=_run)


def _run(loaded: Settings, _arguments: argparse.Namespace) -> None:
    async def run(database: Database, _clock: Clock) -> None:
        applied = await migrate(database)
        for migration in applied:
            print(f"applied {migration.version:04d}_{migration.name}")
        if not applied:
            print("the schema is up to date")

    run_on_database(loaded, run)
