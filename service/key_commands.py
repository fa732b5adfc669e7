"""The command ``python -m service keys``: creates, lists, shows, limits, rotates and revokes API keys."""

import argparse
import json
import re
from collections.abc import Awaitable, Callable

from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.api_key import LONGEST_NAME, ApiKey, Scope, is_account_name
from service.domain.conditions import USD_DECIMALS
from service.domain.key_limits import (
    MOST_OPEN_ORDERS,
    MOST_PRICE_IMPACT_BPS,
    MOST_REQUESTS_PER_SECOND,
    MOST_SLIPPAGE_BPS,
    MOST_SOCKETS,
    KeyLimits,
    LargestAmount,
)
from service.domain.order import DEFAULT_ACCOUNT, OrderType
from service.domain.timestamps import format_epoch
from service.domain.tokens import find_token, is_mint, is_symbol, look_alike, nearest_symbol
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
    what = "create, list, show, limit, rotate and revoke API keys"
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
    _add_limits(create)
    add("list", _list, "list all keys")
    add("show", _show, "show a key").add_argument("id", type=_id)
    set_limits = add("set-limits", _set_limits, "replace all limits of a key; one that is left out ends")
    set_limits.add_argument("id", type=_id)
    _add_limits(set_limits)
    rotate = add("rotate", _rotate, "give a key a new secret and print its token, which is not shown again")
    rotate.add_argument("id", type=_id)
    rotate.add_argument(
        "--overlap", type=_duration, default=0, metavar="1h", help="how long the old secret stays valid"
    )
    add("revoke", _revoke, "revoke a key for good").add_argument("id", type=_id)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits", "by default there are none")
    limits.add_argument(
        "--tokens", type=_names, metavar="SOL,USDC", help="the only tokens that it may sell and buy"
    )
    limits.add_argument(
        "--order-types", type=_order_types, metavar="market,limit", help="the only types of orders"
    )
    limits.add_argument(
        "--max-slippage-bps", type=_integer(0, MOST_SLIPPAGE_BPS), metavar="100", help="of each order"
    )
    limits.add_argument(
        "--max-price-impact-bps",
        type=_integer(0, MOST_PRICE_IMPACT_BPS),
        metavar="300",
        help="of the route of each order",
    )
    limits.add_argument(
        "--max-amount", type=_amounts, metavar="SOL=10,USDC=5000", help="of each order, by token"
    )
    limits.add_argument(
        "--requests-per-second",
        type=_integer(1, MOST_REQUESTS_PER_SECOND),
        metavar="50",
        help="instead of REQUESTS_PER_SECOND",
    )
    limits.add_argument(
        "--max-sockets", type=_integer(0, MOST_SOCKETS), metavar="20", help="open at once on one instance"
    )
    limits.add_argument(
        "--max-amount-per-day", type=_amounts, metavar="SOL=100,USDC=50000", help="of all orders of 24 hours"
    )
    limits.add_argument("--max-usd-per-order", type=_usd, metavar="1000", help="value of each order")
    limits.add_argument(
        "--max-usd-per-day", type=_usd, metavar="10000", help="value of all orders of 24 hours"
    )
    limits.add_argument(
        "--max-open-orders", type=_integer(0, MOST_OPEN_ORDERS), metavar="50", help="that have not ended"
    )
    limits.add_argument(
        "--requires-approval", action="store_true", help="an admin key must approve each of its orders"
    )


def named_tokens(arguments: argparse.Namespace) -> list[str]:
    """Return the tokens that the arguments name; the listed ones must be known before the command runs."""
    options = ("tokens", "max_amount", "max_amount_per_day")
    return [name for option in options for name in getattr(arguments, option, None) or ()]


async def _create(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    limits = _limits_of(arguments)
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
                shown["limits"] = _as_options(key.limits) or None
                print(
                    *(f"{name}: {'-' if value is None else value}" for name, value in shown.items()), sep="\n"
                )
            return
    raise _no_such_key(arguments)


async def _set_limits(keys: ApiKeys, _now: float, arguments: argparse.Namespace) -> None:
    limits = _limits_of(arguments)
    if not await keys.set_limits(arguments.id, limits):
        raise _no_such_key(arguments)
    if arguments.json:
        print(json.dumps({"id": arguments.id, "limits": limits.as_shown()}))
    else:
        print(f"limits of {arguments.id}: {_as_options(limits) or 'none'}")


def _limits_of(arguments: argparse.Namespace) -> KeyLimits:
    tokens = arguments.tokens
    return KeyLimits(
        tokens=None if tokens is None else frozenset(_symbol(name) for name in tokens),
        order_types=arguments.order_types,
        max_slippage_bps=arguments.max_slippage_bps,
        max_price_impact_bps=arguments.max_price_impact_bps,
        max_amount=_largest_amounts("--max-amount", arguments.max_amount),
        requests_per_second=arguments.requests_per_second,
        max_sockets=arguments.max_sockets,
        requires_approval=arguments.requires_approval,
        max_amount_per_day=_largest_amounts("--max-amount-per-day", arguments.max_amount_per_day),
        max_usd_per_order=arguments.max_usd_per_order,
        max_usd_per_day=arguments.max_usd_per_day,
        max_open_orders=arguments.max_open_orders,
    )


def _largest_amounts(option: str, sent: dict[str, str] | None) -> dict[str, LargestAmount]:
    amounts: dict[str, LargestAmount] = {}
    for name, text in (sent or {}).items():
        token = find_token(name)
        if token is None:
            raise _no_such_token(option, name)
        if token.symbol in amounts:
            raise KeyCommandError(f"{option}: {token.symbol} is given twice")
        try:
            amounts[token.symbol] = LargestAmount(parse_amount(text, token.decimals), token.decimals)
        except InvalidAmountError as error:
            raise KeyCommandError(f"{option}: the amount of {token.symbol} {error}") from None
    return amounts


def _symbol(name: str) -> str:
    """Return the name by which a token is known; it may be listed later."""
    token = find_token(name)
    if token is not None:
        return token.symbol
    if look_alike(name) is not None or not (is_symbol(name) or is_mint(name)):
        raise _no_such_token("--tokens", name)
    return name


def _no_such_token(option: str, name: str) -> KeyCommandError:
    near = nearest_symbol(name)
    hint = f"; did you mean {near}?" if near else ""
    return KeyCommandError(f"{option}: there is no token {name}{hint}")


def _as_options(limits: KeyLimits) -> str:
    """Return limits as they are written on the command line."""
    options = []
    for name, value in limits.as_shown().items():
        option = re.sub("[A-Z]", lambda found: f"-{found[0].lower()}", name)
        if isinstance(value, dict):
            options.append(f"--{option} {','.join(f'{token}={amount}' for token, amount in value.items())}")
        elif isinstance(value, list):
            options.append(f"--{option} {','.join(value)}")
        elif isinstance(value, bool):
            options += [f"--{option}"] * value
        elif value is not None:
            options.append(f"--{option} {value}")
    return " ".join(options)


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


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError("must be names separated by commas")
    return names


def _order_types(text: str) -> frozenset[OrderType]:
    try:
        return frozenset(OrderType(name) for name in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be some of {', '.join(OrderType)}, separated by commas"
        ) from None


def _amounts(text: str) -> dict[str, str]:
    amounts: dict[str, str] = {}
    for pair in _names(text):
        token, _, amount = (part.strip() for part in pair.partition("="))
        if not token or not amount or token in amounts:
            raise argparse.ArgumentTypeError("must be like SOL=10,USDC=5000, each token once")
        amounts[token] = amount
    return amounts


def _usd(text: str) -> int:
    """Parse dollars, as millionths."""
    try:
        return parse_amount(text, USD_DECIMALS)
    except InvalidAmountError:
        raise argparse.ArgumentTypeError(
            "must be dollars such as 1000 or 0.50, more than zero, with at most 6 decimals"
        ) from None


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _duration(text: str) -> int:
    """Parse a duration such as 30s, 15m, 12h or 90d, as seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError("must be a duration such as 90s, 15m, 12h or 30d, at most 100 years")
    return seconds
