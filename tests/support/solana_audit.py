"""Orders in a real database, executed by the Solana venue on a served chain, and the audit of both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from service.chains.audit import LedgerReport
from service.chains.solana.auditing.audit import SolanaAudit
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.clock import Clock
from service.domain.lifecycle import Status
from service.domain.quote import Route
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.claims import Claimed
from service.store.opening_balances import OpeningBalances
from service.store.rate_limit import RateLimit
from service.store.transitions import QuotedTransaction
from tests.support.servers import TestServers
from tests.support.solana_tracking import JumpingClock
from tests.support.solana_venue import VenueDesk, venue_desk
from tests.support.store import Store, changed

_DETAIL = {"reason": "transaction_failed", "detail": "It failed."}


class AuditedOrders:
    """A trader whose orders are stored; one process of the service, without its engine."""

    def __init__(self, desk: VenueDesk, store: Store) -> None:
        self.desk = desk
        self.store = store

    async def start(self) -> None:
        """Do what the start of a service does: agree on the venue, and record the opening balances."""
        self.store.instances._read_venue = self.desk.venue.identity
        await self.store.instances.register()
        await self.record_opening()

    async def record_opening(self) -> None:
        """Record the opening balances, as each start does."""
        venue = self.desk.venue
        await OpeningBalances(self.store.database, venue.identity, venue.holdings).record()

    async def claimed(self, route: Route) -> Claimed:
        """Store an order of a route's tokens, and claim it."""
        order = changed(
            self.store.new_order(),
            token_in=route.token_in,
            token_out=route.token_out,
            amount=route.amount_in,
            amount_text=str(route.amount_in),
        )
        await self.store.journal.insert(order, timeout_s=5)
        return await self.claim(order.id)

    async def claim(self, order_id: str) -> Claimed:
        """Claim an order that is due."""
        claim = await self.store.claims.claim(order_id)
        assert isinstance(claim, Claimed)
        return claim

    async def submitted(self, claim: Claimed, route: Route, signed: SignedTransaction) -> Claimed:
        """Store a signed transaction of a claimed order, and submit it."""
        quoted = QuotedTransaction(signed, route.amounts)
        claim = await self._step(claim, Status.BUILDING)
        claim = await self._step(claim, Status.SUBMITTED, transaction=quoted)
        await self.desk.venue.submit(signed)
        return claim

    async def record(
        self, claim: Claimed, signed: SignedTransaction, *, retried: bool = False
    ) -> TransactionStatus:
        """Wait for a transaction's outcome, and record it; a failed attempt ends the order or is retried."""
        outcome = await self.desk.venue.outcome(signed, 60)
        if outcome.state is TransactionState.LANDED:
            await self._step(claim, Status.CONFIRMED, outcome=outcome)
        elif retried:
            await self._step(claim, Status.PENDING, outcome=outcome, detail=_DETAIL, retry_in_ms=0)
        else:
            await self._step(claim, Status.FAILED, outcome=outcome, detail=_DETAIL)
        return outcome

    async def execute(self, token_in: str, token_out: str, amount: int) -> str:
        """Execute an order, and return its id."""
        route = (await self.desk.quote(token_in, token_out, amount)).route
        claim = await self.claimed(route)
        signed = await self.desk.signed(route)
        claim = await self.submitted(claim, route, signed)
        assert (await self.record(claim, signed)).state is TransactionState.LANDED
        return claim.order_id

    async def audit(self, since: datetime | None = None) -> LedgerReport:
        """Compare the orders with the chain, with connections of the audit's own."""
        session = await self.store.database.connect(unhurried=True)
        programs = AmmPrograms(MAINNET)
        try:
            return await SolanaAudit(self.desk.served.urls, programs, JumpingClock(), since).compare(session)
        finally:
            session.close()

    async def _step(self, claim: Claimed, status: Status, **extra: object) -> Claimed:
        await self.store.journal.append(self.store.step(claim, status, **extra))
        return replace(claim, status=status, version=claim.version + 1)


@asynccontextmanager
async def audited_orders(servers: TestServers, endpoints: int = 2) -> AsyncIterator[AuditedOrders]:
    """Start a venue on a chain with so many endpoints, and a store on a test's database."""
    clock = Clock()
    database = Database(servers.database_url, size=4, clock=clock)
    await migrate(database)
    limit = RateLimit(0)
    await limit.apply(database)
    try:
        async with venue_desk(endpoints) as desk:
            # What the wallet holds is read in a final block.
            await desk.pass_slots(40)
            orders = AuditedOrders(desk, Store(database, clock, limit))
            await orders.start()
            yield orders
    finally:
        await database.close()
