"""Variables of the environment, each read by its name, as numbers, hosts and URLs."""

import re
from collections.abc import Callable
from typing import TypeVar

from environs import Env, EnvError
from marshmallow import ValidationError

from service.hosts import InvalidHostError
from service.urls import InvalidUrlError

T = TypeVar("T")


class Variables:
    """The environment's variables, each read by its name.

    An empty one counts as not set, as compose files and shells have it.
    """

    def __init__(self, env: Env) -> None:
        self._env = env

    def text(self, name: str) -> str | None:
        """Return the value; None if it is not set."""
        return self._env.str(name, "").strip() or None

    def parsed(self, name: str, default: str, read: Callable[[str], T]) -> T:
        """Return what ``read`` makes of the value, or of the default; it may raise ``ValidationError``."""
        try:
            return read(self.text(name) or default)
        except ValidationError as error:
            raise invalid(name, error) from error

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number within inclusive bounds."""
        if self.text(name) is None:
            return default
        try:
            return whole_number(self._env.str(name), low, high)
        except ValidationError as error:
            raise invalid(name, error) from error

    def hosts(self, name: str, read: Callable[[str], T]) -> T:
        """Return what ``read`` makes of a list of hosts."""
        try:
            return read(self.text(name) or "")
        except InvalidHostError as error:
            raise invalid(name, error) from None

    def url(self, name: str, check: Callable[[str], object], *schemes: str) -> str | None:
        """Return a URL that ``check`` accepts; an error shows no part of it."""
        value = self.text(name)
        if value is not None:
            _check_url(name, value, check, schemes)
        return value


def whole_number(text: str, low: int, high: int) -> int:
    """Parse a number in plain digits; int() would also accept 1_000, signs, spaces and other scripts."""
    value = int(text) if re.fullmatch(r"0|[1-9][0-9]{0,17}", text) else -1
    if not low <= value <= high:
        raise ValidationError(f"must be a whole number from {low} to {high}, in plain digits")
    return value


def _check_url(name: str, value: str, check: Callable[[str], object], schemes: tuple[str, ...]) -> None:
    # The message does not contain the value, which may include a password.
    if not value.startswith(schemes):
        raise invalid(name, f"must start with {' or '.join(schemes)}")
    try:
        check(value)
    except InvalidUrlError as error:
        raise invalid(name, error) from None


def invalid(name: str, reason: object) -> EnvError:
    """Return the error of a variable whose value cannot be used."""
    return EnvError(f'Environment variable "{name}" invalid: {reason}')
