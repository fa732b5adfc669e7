"""What all orders sell in a day, and whether the next transaction may sell more.

What counts follows from the transactions and the orders themselves: one in flight with the most that it may
sell, one that landed with what it sold, for 24 hours from its signature. The statement that stores a
transaction decides, one at a time on all instances.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from service.clock import Clock
from service.domain.failures import Failure, FailureCode
from service.domain.key_limits import LargestAmount
from service.domain.service_limits import breach_of_day
from service.domain.tokens import TOKENS
from service.postgres.batch import Batcher
from service.postgres.database import Database, UnavailableError
from service.postgres.queries import query
from service.store.transitions import Transition


class _SoldRow(NamedTuple):
    token: str
    amount: int


_GET_SOLD = query("get_sold_in_a_day", _SoldRow)


class OverLimitError(Exception):
    """A transaction was not stored: orders would sell too much in a day; ``failure`` says what is left."""

    def __init__(self, token: str, most: LargestAmount, sold: int) -> None:
        detail = breach_of_day(token, most, sold, TOKENS[token].decimals).detail
        super().__init__(detail)
        self.failure = Failure(FailureCode.OVER_LIMIT, detail)


class DaySales:
    """Reads what was sold, for any number of orders with one statement.

    Args:
        database: The engine's database.
        clock: For the batches.
        group_limit: The maximum number of reads that share a statement.
    """

    def __init__(self, database: Database, clock: Clock, *, group_limit: int) -> None:
        self._database = database
        self._reads = Batcher(
            self._read_group,
            clock=clock,
            name="day sales",
            # Reads of the same token share a statement too.
            key=lambda _token: object(),
            largest=group_limit,
            patient=False,
        )

    async def stop(self) -> None:
        """Wait until every pending read is finished, unless PostgreSQL is unavailable."""
        await self._reads.stop()

    async def sold(self, token: str) -> int:
        """Return what was sold of a token in the last 24 hours, in base units.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        return await self._reads.submit(token)

    async def _read_group(self, tokens: list[str]) -> list[int | Exception]:
        try:
            rows = await self._database.read(_GET_SOLD, {"tokens": sorted(set(tokens))})
        except UnavailableError as error:
            # Otherwise each would be read again by itself.
            return [error] * len(tokens)
        found = {row.token: row.amount for row in rows}
        return [found.get(token, 0) for token in tokens]


def selling_parameters(
    transitions: Iterable[Transition], limits: Mapping[str, LargestAmount]
) -> dict[str, object]:
    """Return what ``append_transitions`` needs to decide on the transactions of its steps.

    Args:
        transitions: The steps.
        limits: The largest amounts of a day by token; without any nothing is decided.
    """
    selling = [
        {
            "id": each.order_id,
            "version": each.version,
            "owner": each.owner,
            "amount": str(each.transaction.signed.maximum_in),
        }
        for each in transitions
        if limits and each.transaction is not None
    ]
    if not selling:
        return {"selling": None, "day_limits": None}
    most = {token: str(limit.in_units(TOKENS[token].decimals)) for token, limit in limits.items()}
    return {"selling": orjson.dumps(selling).decode(), "day_limits": orjson.dumps(most).decode()}
