"""Parameters of JSON-RPC methods: read with their types, or refused as nodes refuse them."""

from collections.abc import Mapping, Sequence
from typing import Any

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from service.amm.integers import U64_MAX
from service.sandbox.blocks import Block
from service.sandbox.errors import CallRefusedError, invalid_params
from service.sandbox.node import Commitment, Node


class Config:
    """The optional object at the end of a method's parameters."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        """Return a text; None if it is not given."""
        value: str | None = self._typed(name, str)
        return value

    def flag(self, name: str) -> bool:
        """Return a flag; false if it is not given."""
        return bool(self._typed(name, bool))

    def number(self, name: str) -> int | None:
        """Return a whole number from 0; None if it is not given."""
        value = self._typed(name, int)
        return None if value is None else _number(value, name)

    def part(self, name: str) -> "Config | None":
        """Return an object; None if it is not given."""
        value = self._typed(name, dict)
        return None if value is None else Config(value)

    def items(self, name: str) -> list[Any]:
        """Return a list; an empty one if it is not given."""
        return self._typed(name, list) or []

    def commitment(self, name: str = "commitment") -> Commitment:
        """Return a commitment; finalized if it is not given."""
        value = self.text(name) or Commitment.FINALIZED
        try:
            return Commitment(value)
        except ValueError:
            raise invalid_params(
                f"Invalid params: unknown variant `{value}`, expected one of `processed`, `confirmed`, "
                "`finalized`."
            ) from None

    def block(self, node: Node, commitment: str = "commitment") -> Block:
        """Return the block that an answer is to be read from.

        Raises:
            CallRefusedError: It is older than ``minContextSlot``.
        """
        block = node.block(self.commitment(commitment))
        least = self.number("minContextSlot")
        if least is not None and block.slot < least:
            raise CallRefusedError(
                -32016, "Minimum context slot has not been reached", {"contextSlot": block.slot}
            )
        return block

    def _typed(self, name: str, kind: type) -> Any:
        value = self._values.get(name)
        if value is not None and not isinstance(value, kind):
            raise invalid_params(f"Invalid params: invalid type for {name}.")
        return value


class Params:
    """The parameters of a call, by their positions."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def text(self, position: int, name: str) -> str:
        """Return a text."""
        value = self._get(position)
        if not isinstance(value, str):
            raise invalid_params(f"Invalid params: {name} must be a string.")
        return value

    def number(self, position: int, name: str) -> int:
        """Return a whole number from 0."""
        return _number(self._get(position), name)

    def texts(self, position: int, name: str, most: int) -> list[str]:
        """Return a list of texts."""
        values = self._get(position)
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise invalid_params(f"Invalid params: {name} must be a list of strings.")
        if len(values) > most:
            raise invalid_params(f"Too many inputs provided; max {most}")
        return values

    def pubkey(self, position: int) -> Pubkey:
        """Return an address."""
        return pubkey(self.text(position, "address"))

    def config(self, position: int) -> Config:
        """Return the object at a position; an empty one if it is not given."""
        value = self._get(position)
        if value is not None and not isinstance(value, dict):
            raise invalid_params("Invalid params: the configuration must be an object.")
        return Config(value or {})

    def optional(self, position: int) -> bool:
        """Whether a parameter is given."""
        return self._get(position) is not None

    def _get(self, position: int) -> Any:
        return self._values[position] if position < len(self._values) else None


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= U64_MAX:
        raise invalid_params(f"Invalid params: {name} must be a whole number from 0 to 2^64 - 1.")
    return value


def pubkey(text: str) -> Pubkey:
    """Return an address from its text."""
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise invalid_params("Invalid param: Invalid") from None


def signature(text: str) -> str:
    """Return a signature's text after a check."""
    try:
        return str(Signature.from_string(text))
    except ValueError:
        raise invalid_params("Invalid param: Invalid") from None


def blockhash(text: str) -> Hash:
    """Return a blockhash from its text."""
    try:
        return Hash.from_string(text)
    except (ValueError, ParseHashError):
        raise invalid_params("Invalid param: Invalid") from None
