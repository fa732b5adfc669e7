"""What the wallet held before the first order is recorded once for each token, and anew for another venue."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from service.chains.holding import Holding
from service.chains.venue import VenueIdentity
from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.opening_balances import OpeningBalances
from service.store.venue_identity import register_on_venue
from tests.support.gem_market import rows
from tests.support.servers import TestServers

CHAIN = VenueIdentity("solana", "genesis", "wallet")
SOL = Holding("So11111111111111111111111111111111111111112", "SOL", "wallet", 7, 2**64 - 1)
USDC = Holding("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "USDC", "account", 8, 0)


class StartOnVenue:
    """A start of the service on a venue, whose wallet holds something."""

    def __init__(self, database: Database, venue: VenueIdentity = CHAIN) -> None:
        self._database = database
        self._venue = venue

    async def identity(self) -> VenueIdentity:
        return self._venue

    async def register(self) -> None:
        await register_on_venue(self._database, Clock().new_instance_id(), self._venue)

    async def record(self, *held: Holding) -> None:
        async def read() -> Sequence[Holding]:
            return held

        await OpeningBalances(self._database, self.identity, read).record()


def recorded(servers: TestServers) -> list[Holding]:
    columns = "SELECT mint, token, account, slot, amount::text FROM opening_balances ORDER BY token"
    return [
        Holding(mint, token, account, slot, int(amount))
        for mint, token, account, slot, amount in rows(servers, columns)
    ]


async def test_the_first_start_records_what_is_held_and_later_ones_what_is_new(servers: TestServers) -> None:
    database = Database(servers.database_url, size=4, clock=Clock())
    try:
        await migrate(database)
        start = StartOnVenue(database)
        # It is nobody's venue yet.
        await start.record(SOL)
        assert recorded(servers) == []
        await start.register()
        await asyncio.gather(*(start.record(replace(SOL, slot=slot)) for slot in (5, 6, 7)))
        [first] = recorded(servers)
        assert first.amount == SOL.amount
        await start.record(replace(SOL, slot=99, amount=1), USDC)
        assert recorded(servers) == [first, USDC]
        # A process of another venue, which has been overtaken.
        await StartOnVenue(database, replace(CHAIN, wallet="another")).record(replace(USDC, amount=3))
        assert recorded(servers) == [first, USDC]
    finally:
        await database.close()


async def test_another_venue_begins_anew(servers: TestServers) -> None:
    database = Database(servers.database_url, size=1, clock=Clock())
    try:
        await migrate(database)
        start = StartOnVenue(database)
        await start.register()
        await start.record(SOL, USDC)
        rows(servers, "DELETE FROM instances")
        other = StartOnVenue(database, replace(CHAIN, market="another genesis"))
        await other.register()
        later = replace(SOL, slot=1, amount=3)
        await other.record(later)
        assert later in recorded(servers)
        current = "SELECT token FROM opening_balances JOIN venue_identity USING (since)"
        assert rows(servers, current) == [("SOL",)]
    finally:
        await database.close()
