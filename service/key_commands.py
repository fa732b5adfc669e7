"""The command ``python -m service keys``: creates, lists, shows, rotates and revokes API keys."""

import argparse
import json
import re
from collections.abc import Awaitable, Callable

from service.domain.api_key import LONGEST_NAME, ApiKey, Scope, is_account_name
from service.domain.order import DEFAULT_ACCOUNT
from service.domain.timestamps import format_epoch
from service.store.api_keys import ApiKeys, NewKey

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 100 * 365 * 86_400
_ID = re.compile(r"[0-9a-f]{16}")

Run = Callable[[ApiKeys, float, argparse.Namespace], Awaitable[None]]
"""Runs a command; the number is PostgreSQL's time, in seconds since the Unix epoch."""


class KeyCommandError(Exception):
    """The command cannot be done; the message says why."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", run: Callable[..., None]) -> None:
    """Add the command to a command line; ``run`` is called with the arguments, ``run_key`` among them."""
    what = "create, list, show, rotate and revoke API keys"
    keys = commands.add_parser("keys", help=what, description=what).add_subparsers(
        dest="keys_command", required=True, metavar="command"
    )

    def add(name: str, run_key: Run, what: str) -> argparse.ArgumentParser:
        parser = keys.add_parser(name, help=what, description=what)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=run, run_key=run_key)
        return parser

    create = add("create", _create, "create a key and print its token, which is not shown again")
    create.add_argument("name", type=_name, help="what the key is for")
    create.add_argument(
        "--scope", type=Scope, choices=list(Scope), default=Scope.TRADE, help="default: trade"
    )
    create.add_argument("--account", type=_account, default=DEFAULT_ACCOUNT, help="default: default")
    create.add_argument("--expires-in", type=_duration, metavar="30d", help="default: it never expires")
    add("list", _list, "list all keys")
    add("show", _show, "show a key").add_argument("id", type=_id)
    rotate = add("rotate", _rotate, "give a key a new secret and print its token, which is not shown again")
    rotate.add_argument("id", type=_id)
    rotate.add_argument(
        "--overlap", type=_duration, default=0, metavar="1h", help="how long the old secret stays valid"
    )
    add("revoke", _revoke, "revoke a key for good").add_argument("id", type=_id)


async def _create(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    new = NewKey(arguments.account, arguments.name, arguments.scope, arguments.expires_in)
    key_id, token = await keys.create(new)
    _print_token(key_id, token, arguments)


async def _list(keys: ApiKeys, now: float, arguments: argparse.Namespace) -> None:
    found = await keys.get_all()
    if arguments.json:
        print(json.dumps([_as_json(key, now) for key in found]))
        return
    rows = [("ID", "SCOPE", "ACCOUNT", "STATE", "NAME")]
    rows += [(key.id, key.scope, key.account, _state(key, now), key.name) for key in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print(*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1], sep="  ")


async def _show(keys: ApiKeys, now: float, arguments: argparse.Namespace) -> None:
    for key in await keys.get_all():
        if key.id == arguments.id:
            shown = _as_json(key, now)
            if arguments.json:
                print(json.dumps(shown))
            else:
                print(
                    *(f"{name}: {'-' if value is None else value}" for name, value in shown.items()), sep="\n"
                )
            return
    raise _no_such_key(arguments)


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


def _as_json(key: ApiKey, now: float) -> dict[str, str | None]:
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account,
        "scope": key.scope,
        "state": _state(key, now),
        "createdAt": format_epoch(key.created_at),
        "expiresAt": None if key.expires_at is None else format_epoch(key.expires_at),
        "revokedAt": None if key.revoked_at is None else format_epoch(key.revoked_at),
    }


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "active" if key.is_active(now) else "expired"


def _name(text: str) -> str:
    if not 1 <= len(text) <= LONGEST_NAME or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be 1 to {LONGEST_NAME} printable characters")
    return text


def _account(text: str) -> str:
    if not is_account_name(text):
        raise argparse.ArgumentTypeError(
            "must be 1 to 63 characters of a-z 0-9 - _, and begin with a letter or digit"
        )
    return text


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise argparse.ArgumentTypeError("must be a key's id: 16 hexadecimal digits")
    return text


def _duration(text: str) -> int:
    """Parse a duration such as 30s, 15m, 12h or 90d, as seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError("must be a duration such as 90s, 15m, 12h or 30d, at most 100 years")
    return seconds
