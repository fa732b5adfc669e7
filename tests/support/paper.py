"""The paper venue of one process without the rest of the service, on a test's servers."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from service.app import Service
from service.chains.paper.chain import Chain
from service.chains.paper.market import Market, PaperPool
from service.chains.paper.records import CommitId
from service.chains.paper.settings import PaperSettings
from service.chains.paper.venue import PaperVenue
from service.chains.venue import Swap, Venue
from service.clock import Clock
from service.domain.quote import Choice, Leg, Path, Route, SwapMode
from service.domain.transaction import SignedTransaction, TransactionStatus
from service.postgres.database import Database, UnavailableError
from service.postgres.deployment import Deployment
from service.postgres.migrations import migrate
from service.postgres.queries import Query
from service.redis.link import RedisLink
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from service.settings import FailureRates, Range
from tests.support.servers import TestServers
from tests.support.statements import meddle

NO_REDIS = "unix:///nowhere/redis.sock"

SOL, USDC = 10**9, 10**6
"""Base units of one display unit."""

SOLD, BOUGHT = "SOL", "USDC"
"""The default pair."""


@functools.cache
def quiet_slot_ms(_servers: TestServers) -> int:
    """Return a slot length, at most a minute, that makes the whole test run within one slot.

    Then only trades move prices. It is the same for all users of the same servers.
    """
    now_ms = time.time_ns() // 1_000_000
    return max(range(60_000, 30_000, -500), key=lambda slot_ms: -now_ms % slot_ms)


def settings(servers: TestServers, **changes: Any) -> PaperSettings:
    """Return the settings of a market without delays, whose prices only trades move."""
    values: dict[str, Any] = {
        "seed": 7,
        "quote_delay_ms": Range(0, 0),
        "execution_delay_ms": Range(0, 0),
        "price_variance_ppm": Range(20_000, 50_000),
        "failure_rates": FailureRates(),
        "balances": {},
        "slot_ms": quiet_slot_ms(servers),
        "valid_slots": 1_000,
        "group_limit": 500,
        "alone": False,
        "listing_every_s": 0,
        "hop_margin_bps": 5,
        **changes,
    }
    return PaperSettings(**values)


async def until(condition: Callable[[], object], within_s: float = 20) -> float:
    """Wait until a condition holds, or fail after a time-out; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, "the condition did not hold in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def quoter(venue: Venue) -> Quoter:
    """Return a router on a venue, with the default limits."""
    return Quoter(venue, timeout_ms=5_000, limits=RouteLimits(), clock=Clock())


def chain_of(service: Service) -> Chain:
    """Return a service's view of the paper market's chain."""
    assert service.market.paper is not None
    return service.market.paper.chain


def by_hand(
    mode: SwapMode, amount: int, *paths: tuple[PaperPool, ...], token_in: str, token_out: str
) -> Route:
    """Return a route through given pools without quotes; each path takes the amount."""
    made = []
    for pools in paths:
        token, legs = token_in, []
        for pool in pools:
            bought = pool.token_b if token == pool.token_a else pool.token_a
            legs.append(Leg(pool.dex, pool.id, token, bought, amount, amount, 0, 0, 0))
            token = bought
        made.append(Path(tuple(legs)))
    return Route(mode, token_in, token_out, tuple(made), 0)


class Rig:
    """One process's venue on a database.

    Args:
        servers: The servers.
        settings: The market's settings.
        redis_url: Another Redis than that of the servers.
    """

    def __init__(self, servers: TestServers, settings: PaperSettings, redis_url: str | None = None) -> None:
        self.settings = settings
        self.clock = Clock()
        self.database = Database(servers.database_url, size=3, clock=self.clock)
        self.link = RedisLink(redis_url or servers.redis_url, self.clock)
        self.deployment = Deployment(servers.redis_prefix)
        self.venue = PaperVenue(self.database, self.clock, self.link, self.deployment, settings)
        self.run = self.database.run

    async def start(self) -> None:
        """Migrate the schema and start the venue."""
        await migrate(self.database)
        await self.deployment.read(self.database, self.clock)
        await self.venue.start()
        self.link.start()
        await self.link.wait_until_checked()

    async def stop(self) -> None:
        """Stop cleanly."""
        await self.venue.stop()
        await self.close()

    async def die(self) -> None:
        """End every task where it is, with PostgreSQL and Redis cut off: nothing is told."""
        self.meddle(_cut_off)
        await self.link.close()
        await self.venue.stop()
        await self.database.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.link.close()
        await self.database.close()

    @property
    def leading(self) -> bool:
        """Whether this process executes."""
        return self.venue.chain.leading

    @property
    def market(self) -> Market | None:
        """The market ahead of its next commit, while this process leads."""
        return self.venue.chain.market

    @property
    def commit_id(self) -> CommitId:
        """The commit that it quotes from."""
        return self.venue.chain.catalogue.commit_id

    @property
    def pools(self) -> dict[str, PaperPool]:
        """The pools that it quotes from."""
        return dict(self.venue.chain.catalogue.pools)

    async def quote(
        self,
        amount: int = SOL,
        token_in: str = SOLD,
        token_out: str = BOUGHT,
        mode: SwapMode = SwapMode.EXACT_IN,
    ) -> Choice:
        """Return the best route."""
        return await quoter(self.venue).best(mode, token_in, token_out, amount)

    async def prepare(
        self, amount: int = SOL, token_in: str = SOLD, token_out: str = BOUGHT
    ) -> SignedTransaction:
        """Sign a valid swap for a new order, with the lowest minimum output."""
        route = (await self.quote(amount, token_in, token_out)).route
        return await self.sign(route)

    async def sign(
        self, route: Route, maximum_in: int | None = None, minimum_out: int = 1
    ) -> SignedTransaction:
        """Sign a swap along a route for a new order."""
        most = route.amount_in if maximum_in is None else maximum_in
        return await self.venue.prepare(Swap(self.clock.new_order_id(), 1, route, most, minimum_out))

    async def trade(
        self, amount: int = SOL, token_in: str = SOLD, token_out: str = BOUGHT
    ) -> TransactionStatus:
        """Execute a valid swap, and return its outcome."""
        attempt = await self.prepare(amount, token_in, token_out)
        await self.venue.submit(attempt)
        return await self.venue.outcome(attempt, 10)

    def meddle(self, before: Callable[[Query[Any]], Awaitable[None]]) -> None:
        """Await a callback before each statement of this process; it may delay the statement or raise."""

        meddle(self.database, before)

    def leave_alone(self) -> None:
        """Remove the callback."""
        self.database.run = self.run  # type: ignore[method-assign]


async def _cut_off(_query: Query[Any]) -> None:
    raise UnavailableError("cut off", unknown=True)


@asynccontextmanager
async def open_rig(
    servers: TestServers, *, redis_url: str | None = None, **changes: Any
) -> AsyncIterator[Rig]:
    """Start a venue, and stop it at the end."""
    rig = Rig(servers, settings(servers, **changes), redis_url)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()
