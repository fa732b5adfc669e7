"""The whole service: its parts, the API on them, and the order in which they start and stop."""

import logging

from service.api.access import Access
from service.api.admin import AdminRoutes
from service.api.application import Guards, application
from service.api.approvals import ApprovalRoutes
from service.api.asyncapi import asyncapi_document
from service.api.batch import BatchRoutes
from service.api.budgets import BudgetCheck
from service.api.day_limits import DayLimitCheck
from service.api.docs import DocsRoutes
from service.api.document import DocumentRoutes
from service.api.dry_run import DryRun
from service.api.event_messages import EventWriter
from service.api.funds import FundsCheck
from service.api.health import HealthRoute
from service.api.idempotency import Idempotency
from service.api.keys import KeyRoutes
from service.api.market import MarketRoutes
from service.api.market_stream import MarketStreamRoutes
from service.api.order_changes import ChangeRoutes
from service.api.orders import OrderRoutes
from service.api.orders_stream import OrdersStreamRoutes
from service.api.origins import Origins
from service.api.pages import Pages
from service.api.paper import PaperRoutes
from service.api.placing import Placer
from service.api.proxies import TrustedProxies
from service.api.queues import at_most
from service.api.request_limits import RequestLimits
from service.api.route import RouteGroups
from service.api.routes import served
from service.api.sockets import Sockets
from service.api.specs import openapi_document
from service.api.stopping import Stopping
from service.api.stream import StreamRoutes
from service.api.unknown_tokens import TokenFetcher
from service.api.venue import VenueRoutes
from service.api.webhook_events import write_message
from service.api.webhooks import WebhookRoutes
from service.chain import Chain, build_chain
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.events.pump import EventPump
from service.hosts import is_loopback
from service.lifespan import Lifespan, Part
from service.parts import Execution, Market, Servers, Storage, Webhooks
from service.postgres.database import RefusedError, UnavailableError
from service.routing.dollars import ReferencePrices
from service.routing.quoting import Quoter
from service.settings import InvalidSettingError, Settings
from service.store.venue_identity import OtherVenueError
from service.turns import Turns

log = logging.getLogger(__name__)

_START_PATIENCE_S = 30
_DRY_RUNS = 4
"""How many orders run dry at once, unlike orders that are placed; more are queued."""

_LOST_CHAIN = (
    "{}. The folder of its data has no such chain: to begin anew, delete the folder, or set another DATA_DIR"
    " (docs/solana.md, A restart)"
)
_NO_KEY = (
    "with {}, other machines can reach the service, and there is no API key: create one with"
    " 'python -m service keys create', or let every client trade with ALLOW_ANONYMOUS=1"
)


class Api:
    """REST and WebSocket; ``web`` is the aiohttp application."""

    def __init__(
        self, settings: Settings, storage: Storage, market: Market, execution: Execution, webhooks: Webhooks
    ) -> None:
        clock = storage.clock
        fetch_tokens = TokenFetcher(market.venue)
        self.limits = RequestLimits(storage.link, storage.deployment, settings.requests_per_second)
        access = Access(storage.keys, storage.key_cache, self.limits)
        self.sockets = Sockets(clock, access)
        self.pump = EventPump(storage.events, clock, storage.deployment, EventWriter())
        storage.bus.on_steps(self.pump.wake)
        limits = market.limits
        prices = ReferencePrices(market.venue, clock)
        budgets = BudgetCheck(prices, storage.budgets)
        placer = Placer(
            journal=storage.journal,
            orders=storage.orders,
            clock=clock,
            fetch_tokens=fetch_tokens,
            queue=storage.queue,
            idempotency=storage.idempotency,
            budgets=budgets,
            funds=FundsCheck(market.venue),
            day_limits=DayLimitCheck(limits, storage.day_sales),
            mode=market.venue.mode,
            insert_timeout_s=settings.insert_timeout_ms / 1000,
            limits=limits,
            market_order_age_s=settings.max_market_order_age_s,
            approval_timeout_s=settings.approval_timeout_s,
        )
        dry_run = DryRun(
            placer=placer,
            halt=storage.halt,
            quoter=market.quoter,
            wallet=market.venue,
            clock=clock,
            max_price_impact_bps=settings.max_price_impact_bps or None,
        )
        groups = RouteGroups(
            OrderRoutes(
                placer,
                at_most(_DRY_RUNS, dry_run.execute),
                storage.orders,
                Pages(storage.orders, Turns(clock)),
                fetch_tokens,
            ),
            BatchRoutes(placer, storage.idempotency),
            ChangeRoutes(
                orders=storage.orders,
                endings=storage.endings,
                resting=storage.resting,
                clock=clock,
                limits=limits,
                budgets=budgets,
                max_history_entries=settings.max_history_entries,
                approval_timeout_s=settings.approval_timeout_s,
                fetch_tokens=fetch_tokens,
            ),
            StreamRoutes(storage.feeds, self.sockets, Turns(clock)),
            OrdersStreamRoutes(self.pump, self.sockets, storage.deployment, fetch_tokens),
            MarketRoutes(
                quoter=market.quoter,
                venue=market.venue,
                clock=clock,
                fetch_tokens=fetch_tokens,
                turns=Turns(clock),
            ),
            MarketStreamRoutes(market.feed, market.venue, self.sockets, fetch_tokens),
            None if market.paper is None else PaperRoutes(market.paper, fetch_tokens),
            HealthRoute(
                halt=storage.halt,
                write_error=lambda: storage.database.write_error,
                link=storage.link,
                executing=lambda: execution.receiver.running,
                unknown_outcomes=lambda: execution.engine.unknown_outcomes,
                anonymous=lambda: storage.key_cache.is_empty,
                mode=market.venue.mode,
            ),
            KeyRoutes(access, storage.budgets, market.venue.mode),
            DocumentRoutes(
                lambda: openapi_document(served(groups), settings.root_path),
                lambda: asyncapi_document(served(groups), settings.root_path),
            ),
            DocsRoutes(),
            AdminRoutes(storage.halt),
            WebhookRoutes(webhooks.endpoints, webhooks.sender, webhooks.deliverer.announce),
            ApprovalRoutes(storage.orders, storage.approvals, storage.queue),
            VenueRoutes(
                market.venue,
                prices,
                storage.halt,
                limits,
                max_price_impact_bps=settings.max_price_impact_bps or None,
                max_market_order_age_s=settings.max_market_order_age_s or None,
                turns=Turns(clock),
            ),
        )
        origins = Origins((settings.host.lower(), *settings.allowed_hosts), settings.cors_origins)
        proxies = TrustedProxies(settings.trusted_proxies)
        self.stopping = Stopping()
        guards = Guards(proxies, origins, access, Idempotency(storage.idempotency), self.stopping)
        self.web = application(groups, guards)


class Service:
    """The whole service, apart from the socket it listens on.

    ``web`` is the aiohttp application; ``start``, ``drain`` and ``stop`` may be called twice.

    Args:
        settings: All settings.
        servers: The servers to use.
        clock: The clock; None: a new one.
        chain: The chain to trade on, built with the same clock; None: it is built now.
        quoter: What finds the routes.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        clock: Clock | None = None,
        chain: Chain | None = None,
        quoter: type[Quoter] = Quoter,
    ) -> None:
        self._clock = clock or Clock()
        chain = chain or build_chain(settings, self._clock)
        self._open_by = _open_by(settings)
        self._allow_anonymous = settings.allow_anonymous
        self._alone = servers.alone
        self._grace_s: float = settings.shutdown_grace_s
        self.storage = Storage(settings, servers, self._clock)
        self._give_up: float | None = None
        self._sandbox = chain.sandbox
        self.market = Market(settings, servers, self.storage, chain.venue, quoter)
        self.execution = Execution(settings, servers, self.storage, self.market)
        self.webhooks = Webhooks(settings, self.storage, write_message)
        self.api = Api(settings, self.storage, self.market, self.execution, self.webhooks)
        self._lifespan = Lifespan(self._parts())
        self.web = self.api.web
        self.web.on_startup.append(lambda _app: self.start())
        self.web.on_shutdown.append(lambda _app: self.drain())
        self.web.on_cleanup.append(lambda _app: self.stop())

    def _sandbox_parts(self) -> list[Part]:
        if self._sandbox is None:
            return []
        return [Part(start=self._sandbox.start, stop=self._sandbox.stop)]

    def _parts(self) -> list[Part]:
        """Return the parts in the order in which they start; they stop in reverse."""
        storage, market, execution, sockets = self.storage, self.market, self.execution, self.api.sockets
        deliverer = self.webhooks.deliverer
        return [
            Part(stop=market.database.close),
            Part(stop=storage.database.close),
            # Closed after all parts but PostgreSQL: a part that stops may still send messages.
            Part(stop=storage.link.close),
            *self._sandbox_parts(),
            Part(start=self._prepare, stop=market.venue.stop),
            Part(stop=storage.orders.stop),
            Part(stop=storage.day_sales.stop),
            Part(start=storage.idempotency.start, stop=storage.idempotency.stop),
            Part(start=storage.budgets.start, stop=storage.budgets.stop),
            Part(stop=storage.key_cache.stop),
            Part(stop=self.api.limits.close),
            Part(start=storage.events.start, stop=storage.events.stop),
            Part(start=storage.feeds.start, stop=storage.feeds.stop),
            Part(start=self.api.pump.start, stop=self.api.pump.stop),
            Part(start=market.feed.start, stop=market.feed.stop),
            Part(start=sockets.start, drain=sockets.stop, stop=sockets.stop),
            Part(start=storage.bus.start, stop=storage.bus.stop),
            Part(start=deliverer.start, drain=deliverer.drain, stop=deliverer.stop),
            # All parts have registered their needs of Redis by now; they are checked before work begins.
            Part(start=self._start_link),
            # It deregisters the process after all parts that claim, fire or write have stopped.
            Part(start=execution.sweep.start, stop=execution.sweep.stop),
            Part(start=execution.ending_loop.start, stop=execution.ending_loop.stop),
            Part(start=execution.triggers.start, stop=execution.triggers.stop),
            Part(stop=storage.claims.stop),
            Part(stop=storage.journal.stop),
            # Stopped before the journal and the claims, because it waits for their writes.
            Part(stop=execution.engine.cancel_running),
            # Last: a job must not run before this process is registered.
            Part(
                start=execution.receiver.start,
                drain=self._end_execution,
                stop=lambda: execution.receiver.stop(0),
            ),
        ]

    async def start(self) -> None:
        """Migrate the schema, recover the orders that the last stop left, and begin to work.

        Raises:
            RefusedError: PostgreSQL is reachable and refuses the connection.
            UnavailableError: PostgreSQL is unreachable for 30 s.
            MigrationError: The schema is not this service's, or is newer.
            OtherVenueError: The orders of the database belong to another venue.
        """
        await self._lifespan.start()

    async def drain(self) -> None:
        """Accept no new work, finish what the grace allows, and tell the watchers to reconnect.

        Call it before the connections are closed: aiohttp's shutdown first stops reading from all of them,
        and then the watchers' close frames would not be received.
        """
        self.api.stopping.begin()
        await self._lifespan.drain()

    async def stop(self) -> None:
        """Stop all parts in order; unfinished orders are at a durable step."""
        await self._lifespan.stop()

    async def _prepare(self) -> None:
        """Do what needs PostgreSQL once it is reachable: it may start later than this process."""
        give_up = self._clock.monotonic() + _START_PATIENCE_S
        while True:
            try:
                await self.storage.prepare()
                await self._check_access()
                await self.execution.sweep.recover(alone=self._alone)
                await self.market.venue.start()
                await self.market.opening_balances.record()
            except RefusedError:
                raise  # a retry will not help
            except OtherVenueError as error:
                # The database is in the chain's folder, and so has no other venue.
                if self._sandbox is None or not self._alone:
                    raise
                raise OtherVenueError(_LOST_CHAIN.format(error)) from None
            except (UnavailableError, VenueUnavailableError) as error:
                if self._clock.monotonic() > give_up:
                    raise
                awaited = "the venue" if isinstance(error, VenueUnavailableError) else "PostgreSQL"
                log.warning("waiting for %s: %s", awaited, error)
                await self._clock.sleep(1)
            else:
                return

    async def _end_execution(self) -> None:
        """Begin no more orders, and finish what the grace allows."""
        # It is called twice.
        give_up = self._give_up = self._give_up or self._clock.monotonic() + self._grace_s
        await self.execution.receiver.stop(max(0.0, give_up - self._clock.monotonic()))

    async def _check_access(self) -> None:
        """Do not start where everybody could trade: reachable from elsewhere, without any key."""
        await self.storage.key_cache.refresh()
        if not self.storage.key_cache.is_empty or self._open_by is None:
            return
        if not self._allow_anonymous:
            raise InvalidSettingError(_NO_KEY.format(self._open_by))
        log.warning("ALLOW_ANONYMOUS=1 and there is no API key: with %s, everyone may trade", self._open_by)

    async def _start_link(self) -> None:
        self.storage.link.start()
        await self.storage.link.wait_until_checked()


def _open_by(settings: Settings) -> str | None:
    """Return the setting by which other machines reach the service, with its value; None: they do not."""
    if not is_loopback(settings.host.lower()):
        return f"HOST={settings.host}"
    if settings.trusted_proxies:
        return "TRUSTED_PROXIES"
    if settings.root_path:
        return f"ROOT_PATH={settings.root_path}"
    foreign = [host for host in settings.allowed_hosts if not is_loopback(host.removeprefix("."))]
    return f"ALLOWED_HOSTS={foreign[0]}" if foreign else None
