"""The store without the rest of the service, for tests of single writes."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from service.chains.venue import VenueIdentity
from service.clock import Clock
from service.domain.history import Committed
from service.domain.key_limits import LargestAmount
from service.domain.lifecycle import Status
from service.domain.mode import TradingMode
from service.domain.order import NewOrder, OrderType, Terms
from service.domain.quote import SwapMode
from service.domain.transaction import Fill, TransactionState, TransactionStatus
from service.execution.order_queue import EntryId, OrderQueue
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.claims import Claimed, Claims
from service.store.halt import TradingHalt
from service.store.instances import Identity, Instances
from service.store.journal import Journal, JournalSettings
from service.store.orders import Orders
from service.store.rate_limit import RateLimit
from service.store.transitions import Transition
from tests.support.servers import TestServers

INSTANCE_TIMEOUT_MS = 600_000
"""Longer than any test, since there are no heartbeats here."""


class NoRedis:
    """The wake-ups on a Redis that is away."""

    available = False

    async def send(self, order_ids: Iterable[str]) -> None:
        """Refuse: nothing is sent where nothing is available."""
        raise AssertionError([*order_ids])

    async def last_sent(self) -> None:
        """Return nothing: without Redis."""

    def supersede(self, until: EntryId) -> None:
        """Refuse: there are none."""
        raise AssertionError(until)

    async def length(self) -> None:
        """Return that Redis is away."""
        return


async def a_venue() -> VenueIdentity:
    """Return the venue of all processes."""
    return VenueIdentity("test", "market", "wallet")


@dataclass
class Store:
    """One process's view of the store; ``told`` are the commits that were published to it."""

    database: Database
    clock: Clock = field(default_factory=Clock)
    rate_limit: RateLimit = field(default_factory=lambda: RateLimit(0))
    told: list[Committed] = field(default_factory=list)
    day_limits: Mapping[str, LargestAmount] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identity = Identity(self.clock, timeout_ms=INSTANCE_TIMEOUT_MS)
        self.queue = OrderQueue(NoRedis(), self.clock)
        self.halt = TradingHalt(self.database, self.clock, self.queue.enqueue_all_due)
        self.instances = Instances(
            *(self.database, self.clock, self.identity, self.halt, a_venue),
            dead_after_ms=1_000,
            longest_wait_ms=60_000,
        )
        self.orders = Orders(self.database, self.clock, group_limit=500)
        self.journal = Journal(
            self.database,
            self.clock,
            self._tell,
            self.halt,
            on_late_insert=self.queue.requeue,
            settings=JournalSettings(
                insert_limit=1_000,
                group_limit=500,
                wake_after_ms=5_000,
                instance_timeout_ms=INSTANCE_TIMEOUT_MS,
                day_limits=self.day_limits,
            ),
        )
        self.claims = Claims(
            self.database,
            self.clock,
            self._tell,
            identity=self.identity,
            rate_limit=self.rate_limit,
            group_limit=500,
        )

    def _tell(self, steps: Sequence[Committed]) -> None:
        self.told.extend(steps)

    def new_order(self, client_order_id: str | None = None) -> NewOrder:
        """Return a valid order."""
        return NewOrder(
            id=self.clock.new_order_id(),
            account="default",
            mode=TradingMode.PAPER,
            order_type=OrderType.MARKET,
            token_in="SOL",
            token_out="USDC",
            swap_mode=SwapMode.EXACT_IN,
            amount=10**9,
            amount_text="1",
            terms=Terms(slippage_bps=100),
            client_order_id=client_order_id,
            decimals_in=9,
            decimals_out=6,
        )

    async def insert(self, client_order_id: str | None = None) -> str:
        """Store a new order and return its id."""
        order = self.new_order(client_order_id)
        await self.journal.insert(order, timeout_s=5)
        return order.id

    async def start(self) -> Claimed:
        """Store a new order and claim it for this process."""
        claim = await self.claims.claim(await self.insert())
        assert isinstance(claim, Claimed)
        return claim

    def step(self, claim: Claimed, status: Status, **changes: object) -> Transition:
        """Return the transition of a claimed order to a status."""
        values: dict[str, object] = {
            "order_id": claim.order_id,
            "version": claim.version,
            "owner": claim.owner,
            "status": status,
            "write_id": self.clock.new_write_id(),
            **changes,
        }
        return Transition(**values)  # type: ignore[arg-type]


def landed(fill: Fill, **details: Any) -> TransactionStatus:
    """Return the outcome of a transaction that landed."""
    return TransactionStatus(TransactionState.LANDED, fill=fill, **details)


def changed(order: NewOrder, **changes: Any) -> NewOrder:
    """Return an order with other fields, or other terms."""
    terms = {field.name: changes.pop(field.name) for field in fields(Terms) if field.name in changes}
    return replace(order, **changes, terms=replace(order.terms, **terms))


@asynccontextmanager
async def open_store(
    servers: TestServers,
    rate_limit: RateLimit | None = None,
    day_limits: Mapping[str, LargestAmount] | None = None,
) -> AsyncIterator[Store]:
    """Open the store of a test's database, with the schema migrated and the rate limit applied."""
    clock = Clock()
    database = Database(servers.database_url, size=4, clock=clock)
    await migrate(database)
    limit = rate_limit or RateLimit(0)
    await limit.apply(database)
    store = Store(database, clock, limit, day_limits=day_limits or {})
    await store.instances.register()
    yield store
    await database.close()
