"""What the wallet held before the first order: where an audit of its balances begins."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import orjson

from service.chains.holding import ReadHoldings
from service.chains.venue import VenueIdentity
from service.postgres.database import Database
from service.postgres.queries import query

_RECORD = query("record_opening_balances")


class OpeningBalances:
    """The opening balances of this database's venue.

    Args:
        database: The engine's database.
        read_venue: Returns the venue of this process.
        read_holdings: Returns what its wallet holds; None: the venue keeps the balances in its own ledger.
    """

    def __init__(
        self,
        database: Database,
        read_venue: Callable[[], Awaitable[VenueIdentity]],
        read_holdings: ReadHoldings | None,
    ) -> None:
        self._database = database
        self._read_venue = read_venue
        self._read_holdings = read_holdings

    async def record(self) -> None:
        """Record what the wallet holds of tokens that have none yet; call it before this process trades.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
            VenueUnavailableError: The venue did not answer.
        """
        if self._read_holdings is None:
            return
        venue = await self._read_venue()
        rows = [asdict(each) for each in await self._read_holdings()]
        parameters = {**asdict(venue), "rows": orjson.dumps(rows).decode()}
        await self._database.run_through_conflicts(_RECORD, parameters)
