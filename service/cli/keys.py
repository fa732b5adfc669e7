"""The command ``python -m service keys``: creates, lists, shows, limits, rotates and revokes API keys."""

import argparse
import json
from collections.abc import Awaitable, Callable

from service.chains.factory import find_tokens, list_chain_tokens
from service.cli.key_options import (
    KeyCommandError,
    add_limit_options,
    as_options,
    limits_of,
    named_tokens,
    read_account,
    read_duration,
    read_id,
    read_name,
)
from service.cli.servers import run_on_database
from service.cli.tables import print_table
from service.clock import Clock
from service.domain.api_key import ApiKey, Scope
from service.domain.order import DEFAULT_ACCOUNT
from service.domain.timestamps import format_epoch
from service.domain.tokens import list_token
from service.postgres.database import Database
from service.postgres.migrations import migrate_if_empty
from service.settings import Settings
from service.store.api_keys import ApiKeys, NewKey

Run = Callable[[ApiKeys, float, argparse.Namespace], Awaitable[None]]
"""Runs a command; the number is PostgreSQL's time, in seconds since the Unix epoch."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "create, list, show, limit, rotate and revoke API keys"
    keys = commands.add_parser("keys", help=what, description=what).add_subparsers(
        dest="keys_command", required=True, metavar="command"
    )

    def add(name: str, run_key: Run, what: str) -> argparse.ArgumentParser:
        parser = keys.add_parser(name, help=what, description=what)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=_run, run_key=run_key)
        return parser

    create = add("create", _create, "create a key and print its token, which is not shown again")
    create.add_argument("name", type=read_name, help="what the key is for")
    create.add_argument(
        "--scope", type=Scope, choices=list(Scope), default=Scope.TRADE, help="default: trade"
    )
    create.add_argument("--account", type=read_account, default=DEFAULT_ACCOUNT, help="default: default")
    create.add_argument("--expires-in", type=read_duration, metavar="30d", help="default: it never expires")
    add_limit_options(create)
    add("list", _list, "list all keys")
    add("show", _show, "show a key").add_argument("id", type=read_id)
    set_limits = add("set-limits", _set_limits, "replace all limits of a key; one that is left out ends")
    set_limits.add_argument("id", type=read_id)
    add_limit_options(set_limits)
    rotate = add("rotate", _rotate, "give a key a new secret and print its token, which is not shown again")
    rotate.add_argument("id", type=read_id)
    rotate.add_argument(
        "--overlap", type=read_duration, default=0, metavar="1h", help="how long the old secret stays valid"
    )
    add("revoke", _revoke, "revoke a key for good").add_argument("id", type=read_id)


def _run(loaded: Settings, arguments: argparse.Namespace) -> None:
    list_chain_tokens(loaded)  # before any server is started

    async def run(database: Database, clock: Clock) -> None:
        await migrate_if_empty(database)
        keys = ApiKeys(database, clock)
        await keys.get_changed(None)  # reads PostgreSQL's time
        for token in await find_tokens(loaded, database, clock, named_tokens(arguments)):
            list_token(token)
        await arguments.run_key(keys, clock.database_time(), arguments)

    run_on_database(loaded, run)


async def _create(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    limits = limits_of(arguments)
    new = NewKey(arguments.account, arguments.name, arguments.scope, arguments.expires_in, limits)
    key_id, token = await keys.create(new)
    _print_token(key_id, token, arguments)


async def _list(keys: ApiKeys, now: float, arguments: argparse.Namespace) -> None:
    found = await keys.get_all()
    if arguments.json:
        print(json.dumps([_as_json(key, now) for key in found]))
        return
    rows = [("ID", "SCOPE", "ACCOUNT", "STATE", "NAME")]
    rows += [(key.id, key.scope, key.account, _state(key, now), key.name) for key in found]
    print_table(rows)


async def _show(keys: ApiKeys, now: float, arguments: argparse.Namespace) -> None:
    for key in await keys.get_all():
        if key.id == arguments.id:
            shown = _as_json(key, now)
            if arguments.json:
                print(json.dumps(shown))
            else:
                shown["limits"] = as_options(key.limits) or None
                print(
                    *(f"{name}: {'-' if value is None else value}" for name, value in shown.items()), sep="\n"
                )
            return
    raise _no_such_key(arguments)


async def _set_limits(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    limits = limits_of(arguments)
    if not await keys.set_limits(arguments.id, limits):
        raise _no_such_key(arguments)
    if arguments.json:
        print(json.dumps({"id": arguments.id, "limits": limits.as_shown()}))
    else:
        print(f"limits of {arguments.id}: {as_options(limits) or 'none'}")


async def _rotate(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    token = await keys.rotate(arguments.id, arguments.overlap)
    if token is None:
        raise KeyCommandError(f"there is no key {arguments.id}, or it has expired or was revoked")
    _print_token(arguments.id, token, arguments)


async def _revoke(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    if not await keys.revoke(arguments.id):
        raise _no_such_key(arguments)
    print(json.dumps({"id": arguments.id}) if arguments.json else f"revoked {arguments.id}")


def _no_such_key(arguments: argparse.Namespace) -> KeyCommandError:
    return KeyCommandError(f"there is no key {arguments.id}")


def _print_token(key_id: str, token: str, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps({"id": key_id, "token": token}))
    else:
        print(f"key {key_id}; its token is not shown again:", token, sep="\n")


def _as_json(key: ApiKey, now: float) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "scope": key.scope,
        "state": _state(key, now),
        "createdAt": format_epoch(key.created_at),
        "expiresAt": None if key.expires_at is None else format_epoch(key.expires_at),
        "revokedAt": None if key.revoked_at is None else format_epoch(key.revoked_at),
        "limits": key.limits.as_shown(),
    }


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "active" if key.is_active(now) else "expired"
