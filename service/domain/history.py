"""The history of an order: its entries, and the steps that add one."""

from dataclasses import dataclass
from typing import Any

from service.domain.transaction import Fill

Entry = dict[str, Any]
"""A history entry: sequence, status, timestamp, and what there is to say about the step."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """What an attempt was offered, and the route it chose (None: it found none), in the wire's form."""

    offers: list[Entry]
    route: Entry | None


@dataclass(frozen=True, slots=True)
class Committed:
    """A step that is durable: the history entry, and what came with it.

    ``decimals_out`` are tokenOut's, with a step that could be made only because they are known.
    """

    order_id: str
    entry: Entry
    quoted: Quoted | None = None
    fill: Fill | None = None
    decimals_out: int | None = None

    @property
    def sequence(self) -> int:
        """The entry's place in the history, from 1."""
        sequence: int = self.entry["sequence"]
        return sequence
