"""Builds the parts of the service, group by group: storage, market, execution, webhooks.

Each group receives the groups before it. ``app.py`` starts and stops them.
"""

from dataclasses import dataclass

from service.chains.factory import BuiltVenue, build_venue
from service.clock import Clock
from service.domain.mode import TradingMode
from service.domain.service_limits import ServiceLimits
from service.events.bus import Bus
from service.events.feed import Feeds
from service.events.market_feed import MarketFeed
from service.execution.engine import Engine, ExecutionSettings
from service.execution.order_queue import OrderQueue
from service.execution.retry import RetryPolicy
from service.postgres.database import Database
from service.postgres.deployment import Deployment
from service.postgres.leases import NamedLease
from service.postgres.migrations import migrate
from service.redis.link import RedisLink
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from service.settings import Settings
from service.store.api_keys import ApiKeys, KeyCache
from service.store.approvals import Approvals
from service.store.budgets import Budgets
from service.store.claims import Claims
from service.store.day_sales import DaySales
from service.store.endings import Endings
from service.store.halt import TradingHalt
from service.store.idempotency import IdempotencyKeys
from service.store.instances import Identity, Instances
from service.store.journal import Journal, JournalSettings
from service.store.opening_balances import OpeningBalances
from service.store.order_events import OrderEvents
from service.store.orders import Orders
from service.store.rate_limit import RateLimit
from service.store.resting import Resting
from service.store.sightings import Sightings
from service.store.webhook_endpoints import WebhookEndpoints
from service.store.webhook_outbox import WebhookOutbox
from service.triggers.market import MarketView
from service.triggers.watch import Triggers
from service.webhooks.deliverer import WebhookDeliverer, WriteMessage
from service.webhooks.sender import WebhookSender
from service.workers.broker import WakeUpBroker
from service.workers.endings import EndingLoop
from service.workers.receiver import JobReceiver
from service.workers.sweep import WAKE_AFTER_MS, Sweep

_VENUE_CONNECTIONS = 3
# How much longer than an attempt at a webhook its lease is: for reading the order and recording the result.
_LEASE_MARGIN_S = 15


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers to use. ``alone``: no other process can be using them."""

    database_url: str
    redis_url: str
    alone: bool


class Storage:
    """PostgreSQL and Redis, the orders in them, and the feeds of their steps."""

    def __init__(self, settings: Settings, servers: Servers, clock: Clock) -> None:
        self.clock = clock
        self.database = Database(servers.database_url, size=settings.database_connections, clock=clock)
        self.link = RedisLink(servers.redis_url, clock)
        self.deployment = Deployment(settings.redis_prefix)
        self.identity = Identity(clock, timeout_ms=settings.instance_timeout_ms)
        self.rate_limit = RateLimit(settings.queue_rate_limit_per_minute)
        self.broker = WakeUpBroker(self.link, self.deployment, consumer=self.identity.id)
        self.queue = OrderQueue(self.broker, clock)
        self.link.on_change(self.queue.enqueue_all_due)
        self.keys = ApiKeys(self.database, clock)
        self.key_cache = KeyCache(self.keys, clock)
        self.halt = TradingHalt(self.database, clock, self.queue.enqueue_all_due)
        self.idempotency = IdempotencyKeys(self.database, clock, self.identity)
        self.budgets = Budgets(self.database, clock)
        self.sightings = Sightings()
        self.orders = Orders(
            self.database, clock, group_limit=settings.write_group_limit, sightings=self.sightings
        )
        self.events = OrderEvents(self.database, clock)
        self.feeds = Feeds(self.orders, clock)
        self.bus = Bus(self.link, self.feeds, clock, deployment=self.deployment, sender=self.identity.id)
        self.bus.on_seen(self.sightings.put)
        self.bus.on_seen(self.feeds.deliver_seen)
        self.bus.on_steps(self.sightings.forget_earlier)
        self.journal = Journal(
            self.database,
            clock,
            self.bus.publish,
            self.halt,
            on_late_insert=self.queue.requeue,
            settings=JournalSettings(
                insert_limit=settings.insert_queue_limit,
                group_limit=settings.write_group_limit,
                wake_after_ms=WAKE_AFTER_MS,
                instance_timeout_ms=settings.instance_timeout_ms,
                day_limits=settings.max_day_amounts,
            ),
        )
        self.day_sales = DaySales(self.database, clock, group_limit=settings.write_group_limit)
        self.claims = Claims(
            self.database,
            clock,
            self.bus.publish,
            identity=self.identity,
            rate_limit=self.rate_limit,
            group_limit=settings.write_group_limit,
        )
        self.endings = Endings(self.database, clock, self.bus.publish)
        self.resting = Resting(
            self.database,
            clock,
            self.bus.publish,
            wake_after_ms=WAKE_AFTER_MS,
            market_order_age_s=settings.max_market_order_age_s,
        )
        self.approvals = Approvals(
            self.database,
            clock,
            self.bus.publish,
            self.halt,
            wake_after_ms=WAKE_AFTER_MS,
            market_order_age_s=settings.max_market_order_age_s,
        )

    async def prepare(self) -> None:
        """Migrate the schema, read the deployment's id, and set the rate limit that all instances share."""
        await migrate(self.database)
        await self.deployment.read(self.database, self.clock)
        await self.rate_limit.apply(self.database)


class Market:
    """The venue, the best routes on it, and the pairs that are watched."""

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        storage: Storage,
        chain: BuiltVenue | None = None,
        quoter: type[Quoter] = Quoter,
    ) -> None:
        clock = storage.clock
        # The venue has its own connections.
        self.database = Database(
            servers.database_url, size=_VENUE_CONNECTIONS, clock=clock, beside=storage.database
        )
        built = build_venue(
            settings, self.database, clock, storage.link, storage.deployment, alone=servers.alone, chain=chain
        )
        self.venue, self.paper = built.venue, built.paper
        self.opening_balances = OpeningBalances(storage.database, self.venue.identity, built.read_holdings)
        self.limits = ServiceLimits(
            settings.max_order_amounts,
            settings.max_day_amounts,
            only_named=built.venue.mode is TradingMode.LIVE,
        )
        self.route_limits = RouteLimits(
            settings.max_route_legs, settings.min_split_gain_bps, settings.hop_margin_bps
        )
        self.quoter = quoter(
            self.venue, timeout_ms=settings.quote_timeout_ms, limits=self.route_limits, clock=clock
        )
        self.feed = MarketFeed(
            self.venue,
            clock,
            self.route_limits,
            every_ms=settings.market_update_ms,
            most_quotes=settings.max_market_quotes,
        )
        self.venue.on_change(self.feed.apply)


class Execution:
    """The engine, and the loops that fire, enqueue, execute and end orders."""

    def __init__(self, settings: Settings, servers: Servers, storage: Storage, market: Market) -> None:
        clock = storage.clock
        retry = RetryPolicy(settings.max_retries, settings.retry_base_delay_ms, settings.max_history_entries)
        self.engine = Engine(
            journal=storage.journal,
            claims=storage.claims,
            orders=storage.orders,
            venue=market.venue,
            quoter=market.quoter,
            clock=clock,
            settings=ExecutionSettings(
                retry=retry,
                outcome_timeout_ms=settings.outcome_timeout_ms,
                max_price_impact_bps=settings.max_price_impact_bps or None,
                limits=market.limits,
            ),
            queue=storage.queue,
        )
        self.engine.on_seen(storage.bus.publish_seen)
        self.receiver = JobReceiver(
            storage.broker,
            storage.link,
            clock,
            storage.queue,
            execute=self.engine.execute,
            concurrency=settings.worker_concurrency,
        )
        timeout_ms = settings.instance_timeout_ms
        self.sweep = Sweep(
            Instances(
                storage.database,
                clock,
                storage.identity,
                storage.halt,
                market.venue.identity,
                dead_after_ms=timeout_ms,
                longest_wait_ms=max(retry.longest_delay_ms, storage.rate_limit.window_ms) + WAKE_AFTER_MS,
            ),
            storage.identity,
            clock,
            storage.queue,
            self.engine,
            rate_limit=storage.rate_limit,
            instance_timeout_ms=timeout_ms,
        )
        self.ending_loop = EndingLoop(storage.endings, clock)
        lease = NamedLease(
            storage.database, name="triggers", leader=clock.new_instance_id(), alone=servers.alone
        )
        view = MarketView(market.venue, clock, market.route_limits)
        self.triggers = Triggers(
            lease,
            storage.resting,
            view,
            storage.queue,
            clock,
            is_halted=lambda: storage.halt.reason is not None,
        )
        storage.bus.on_steps(self.triggers.apply_steps)
        market.venue.on_change(self.triggers.apply_change)


class Webhooks:
    """The endpoints of webhooks, and the delivery to them; ``write`` writes the messages."""

    def __init__(self, settings: Settings, storage: Storage, write: WriteMessage) -> None:
        clock = storage.clock
        self.endpoints = WebhookEndpoints(storage.database, clock)
        self.sender = WebhookSender(
            clock, timeout_s=settings.webhook_timeout_s, allow_private=settings.webhook_allow_private
        )
        self.outbox = WebhookOutbox(
            storage.database,
            clock,
            lease_s=settings.webhook_timeout_s + _LEASE_MARGIN_S,
            group_limit=settings.write_group_limit,
        )
        self.deliverer = WebhookDeliverer(
            self.outbox, self.endpoints, storage.orders, self.sender, write, clock
        )
        storage.bus.on_steps(lambda _steps: self.deliverer.wake())
