"""Wires everything in start order; the only file that sees all layers."""

import logging
from dataclasses import dataclass

from service.api.health import HealthRoute
from service.api.learning import TokenLearner
from service.api.market import MarketRoutes
from service.api.order_changes import ChangeRoutes
from service.api.orders import OrderRoutes
from service.api.pages import Pages
from service.api.paper import PaperRoutes
from service.api.route import RouteGroups
from service.api.routes import application
from service.api.stream import StreamRoutes
from service.chains.paper.faults import Fault, FaultyVenue
from service.chains.paper.venue import PaperSettings, PaperVenue
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.events.bus import Bus
from service.events.feed import Feeds
from service.execution.engine import Engine, ExecutionSettings
from service.execution.order_queue import OrderQueue
from service.execution.retry import RetryPolicy
from service.postgres.database import Database, RefusedError, UnavailableError
from service.postgres.deployment import Deployment
from service.postgres.leases import Lease
from service.postgres.migrations import migrate
from service.redis.link import RedisLink
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from service.settings import Settings
from service.store.claims import Claims
from service.store.endings import Endings
from service.store.instances import Identity, Instances
from service.store.journal import Journal
from service.store.orders import Orders
from service.store.rate_limit import RateLimit
from service.store.resting import Resting
from service.triggers.market import MarketView
from service.triggers.watch import LEASE_MS, Triggers
from service.turns import Turns
from service.workers.broker import WakeUpBroker
from service.workers.endings import EndingLoop
from service.workers.receiver import JobReceiver
from service.workers.sweep import WAKE_AFTER_MS, Sweep

log = logging.getLogger(__name__)

_VENUE_CONNECTIONS = 3
_START_PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers to use. ``alone``: no other process can be using them."""

    database_url: str
    redis_url: str
    alone: bool


class Service:
    """The whole service, apart from the socket it listens on.

    ``web`` is the aiohttp application; ``start``, ``drain`` and ``stop`` may be called twice.
    """

    def __init__(self, settings: Settings, servers: Servers, clock: Clock | None = None) -> None:
        self._settings = settings
        self._servers = servers
        self._clock = clock or Clock()
        self._database = Database(servers.database_url, size=settings.database_connections, clock=self._clock)
        # The venue stands behind a wire of its own.
        self._venue_database = Database(
            servers.database_url, size=_VENUE_CONNECTIONS, clock=self._clock, beside=self._database
        )
        self._identity = Identity(self._clock, timeout_ms=settings.instance_timeout_ms)
        self._rate_limit = RateLimit(settings.queue_rate_limit_per_minute)
        self.orders = Orders(self._database, self._clock, group_limit=settings.write_group_limit)
        self._deployment = Deployment(settings.redis_prefix)
        self.link = RedisLink(servers.redis_url, self._clock)
        self.feeds = Feeds(self.orders, self._clock)
        self._bus = Bus(
            self.link,
            self.feeds,
            self._clock,
            deployment=self._deployment,
            sender=self._identity.id,
        )
        broker = WakeUpBroker(self.link, self._deployment, consumer=self._identity.id)
        self.queue = OrderQueue(broker, self._clock)
        self.link.on_change(self.queue.enqueue_all_due)
        self._journal = Journal(
            self._database,
            self._clock,
            self._bus.publish,
            on_late_insert=self.queue.put_back,
            insert_limit=settings.insert_queue_limit,
            group_limit=settings.write_group_limit,
            wake_after_ms=WAKE_AFTER_MS,
            instance_timeout_ms=settings.instance_timeout_ms,
        )
        self._claims = Claims(
            self._database,
            self._clock,
            self._bus.publish,
            identity=self._identity,
            rate_limit=self._rate_limit,
            group_limit=settings.write_group_limit,
        )
        self.venue = venue = self._paper_venue(_paper_settings(settings, alone=servers.alone))
        route_limits = RouteLimits(settings.max_route_legs, settings.min_split_gain_bps)
        quoter = Quoter(
            venue,
            timeout_ms=settings.quote_timeout_ms,
            limits=route_limits,
            clock=self._clock,
        )
        self.engine = Engine(
            journal=self._journal,
            claims=self._claims,
            orders=self.orders,
            venue=venue,
            quoter=quoter,
            clock=self._clock,
            settings=ExecutionSettings(
                retry=RetryPolicy(
                    settings.max_retries, settings.retry_base_delay_ms, settings.max_history_entries
                ),
                outcome_timeout_ms=settings.outcome_timeout_ms,
            ),
            queue=self.queue,
        )
        self._receiver = JobReceiver(
            broker,
            self.link,
            self._clock,
            self.queue,
            execute=self.engine.execute,
            concurrency=settings.worker_concurrency,
        )
        self._sweep = Sweep(
            Instances(
                self._database,
                self._clock,
                self._identity,
                dead_after_ms=settings.instance_timeout_ms,
            ),
            self._identity,
            self._clock,
            self.queue,
            self.engine,
            rate_limit=self._rate_limit,
            instance_timeout_ms=settings.instance_timeout_ms,
        )
        endings = Endings(self._database, self._clock, self._bus.publish)
        self._ending_loop = EndingLoop(endings, self._clock)
        resting = Resting(
            self._database,
            self._clock,
            self._bus.publish,
            wake_after_ms=WAKE_AFTER_MS,
            market_order_age_s=settings.max_market_order_age_s,
        )
        self.triggers = Triggers(
            Lease(
                self._database,
                name="triggers",
                leader=self._clock.new_instance_id(),
                lease_ms=LEASE_MS,
                alone=servers.alone,
            ),
            resting,
            MarketView(venue, self._clock, route_limits),
            self.queue,
            self._clock,
            slot_ms=settings.slot_ms,
        )
        self._bus.on_steps(self.triggers.take)
        venue.on_change(self.triggers.take_change)
        self._stream = StreamRoutes(self.feeds, self._clock)
        learn = TokenLearner(venue)
        groups = RouteGroups(
            OrderRoutes(
                journal=self._journal,
                orders=self.orders,
                pages=Pages(self.orders, Turns(self._clock)),
                clock=self._clock,
                learn=learn,
                queue=self.queue,
                insert_timeout_s=settings.insert_timeout_ms / 1000,
                market_order_age_s=settings.max_market_order_age_s,
            ),
            ChangeRoutes(
                orders=self.orders,
                endings=endings,
                resting=resting,
                clock=self._clock,
                max_history_entries=settings.max_history_entries,
                learn=learn,
            ),
            self._stream,
            MarketRoutes(
                quoter=quoter, venue=venue, clock=self._clock, learn=learn, turns=Turns(self._clock)
            ),
            PaperRoutes(venue, learn),
            HealthRoute(
                orders=self.orders,
                link=self.link,
                executing=lambda: self._receiver.running,
                unknown_outcomes=lambda: self.engine.unknown_outcomes,
            ),
        )
        self.web = application(groups)
        self.web.on_startup.append(lambda _app: self.start())
        self.web.on_shutdown.append(lambda _app: self.drain())
        self.web.on_cleanup.append(lambda _app: self.stop())
        self._started = False

    def _paper_venue(self, settings: PaperSettings) -> PaperVenue:
        """Return the venue, with the faults that are asked for."""
        parts = (self._venue_database, self._clock, self.link, self._deployment, settings)
        rates_ppm = {Fault(kind): rate for kind, rate in self._settings.paper_faults_ppm.items()}
        return FaultyVenue(*parts, rates_ppm=rates_ppm) if rates_ppm else PaperVenue(*parts)

    async def start(self) -> None:
        """Bring the schema up to date, recover what the last stop left, and begin to work.

        Raises:
            RefusedError: PostgreSQL can be reached and will not have us.
            UnavailableError: PostgreSQL cannot be reached for 30 s.
            MigrationError: Its schema is not one of ours, or newer.
        """
        if self._started:
            return
        self._started = True
        await self._prepare()
        self.feeds.start()
        self._stream.start()
        self._bus.start()
        self.link.start()
        await self.link.settled()
        self._sweep.start()
        self._ending_loop.start()
        self.triggers.start()
        # Last: a job must not run before this process is known to the others.
        self._receiver.start()

    async def _prepare(self) -> None:
        """Do what needs PostgreSQL, as soon as it can be reached: it may start later than this process."""
        give_up = self._clock.monotonic() + _START_PATIENCE_S
        while True:
            try:
                await migrate(self._database)
                await self._deployment.read(self._database, self._clock)
                await self._rate_limit.put_in_force(self._database)
                await self._sweep.recover(alone=self._servers.alone)
                await self.venue.start()
            except RefusedError:
                raise  # trying again will not help
            except (UnavailableError, VenueUnavailableError) as error:
                if self._clock.monotonic() > give_up:
                    raise
                log.warning("waiting for PostgreSQL: %s", error)
                await self._clock.sleep(1)
            else:
                return

    async def drain(self) -> None:
        """Take no new work, finish what can be finished in the grace, and tell the watchers to come back.

        To be called before the connections are closed: aiohttp's shutdown begins by reading from none of
        them, and then no watcher's answer to that would be heard.
        """
        if self._started:
            await self._receiver.stop(self._settings.shutdown_grace_s)
        await self._stream.stop()

    async def stop(self) -> None:
        """Stop in order; what has not been finished stands at a durable step."""
        if not self._started:
            return
        self._started = False
        await self._receiver.stop(0)
        await self.engine.cancel_running()
        await self._journal.stop()
        await self._claims.stop()
        await self.triggers.stop()
        await self._ending_loop.stop()
        await self._sweep.stop()
        await self._bus.stop()
        await self.feeds.stop()
        await self.orders.stop()
        await self.venue.stop()
        await self.link.close()
        await self._database.close()
        await self._venue_database.close()


def _paper_settings(settings: Settings, *, alone: bool) -> PaperSettings:
    return PaperSettings(
        seed=settings.paper_seed,
        quote_delay_ms=settings.quote_delay_ms,
        execution_delay_ms=settings.execution_delay_ms,
        price_variance_ppm=settings.price_variance_ppm,
        failure_rates=settings.paper_failure_rates,
        balances=settings.paper_balances,
        slot_ms=settings.slot_ms,
        valid_slots=settings.paper_tx_valid_slots,
        group_limit=settings.write_group_limit,
        alone=alone,
        listing_every_s=settings.paper_listing_every_s,
    )
