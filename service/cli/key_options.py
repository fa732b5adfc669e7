"""The options and arguments of ``python -m service keys``, and the limits of an API key that they say."""

import argparse
import re
from collections.abc import Callable

from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.api_key import LONGEST_NAME, is_account_name
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
from service.domain.order import OrderType
from service.domain.tokens import find_token, is_mint, is_symbol, look_alike, nearest_symbol

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 100 * 365 * 86_400
_ID = re.compile(r"[0-9a-f]{16}")


class KeyCommandError(Exception):
    """The command cannot be done; the message says why."""


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say the limits of a key."""
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


def limits_of(arguments: argparse.Namespace) -> KeyLimits:
    """Return the limits that the options say.

    Raises:
        KeyCommandError: They name an unknown token, or an amount is not valid.
    """
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


def as_options(limits: KeyLimits) -> str:
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


def read_name(text: str) -> str:
    """Parse the name of a key."""
    if not 1 <= len(text) <= LONGEST_NAME or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be 1 to {LONGEST_NAME} printable characters")
    return text


def read_account(text: str) -> str:
    """Parse the name of an account."""
    if not is_account_name(text):
        raise argparse.ArgumentTypeError(
            "must be 1 to 63 characters of a-z 0-9 - _, and begin with a letter or digit"
        )
    return text


def read_id(text: str) -> str:
    """Parse the id of a key."""
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


def read_duration(text: str) -> int:
    """Parse a duration such as 30s, 15m, 12h or 90d, as seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError("must be a duration such as 90s, 15m, 12h or 30d, at most 100 years")
    return seconds
