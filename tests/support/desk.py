"""The store with cancellation, firing and amendment, and two processes that use them concurrently."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from service.domain.history import Committed
from service.domain.lifecycle import Status
from service.domain.order import NewOrder, Order, OrderType, Terms, TimeInForce
from service.domain.quote import Amounts
from service.domain.transaction import Fill, SignedTransaction
from service.store.approvals import Approvals
from service.store.claims import Claimed
from service.store.endings import Endings
from service.store.resting import Amendment, Fired, Resting
from service.store.transitions import QuotedTransaction
from tests.support.gem_market import rows
from tests.support.interleaving import Actor, interleave
from tests.support.servers import TestServers
from tests.support.store import Store, changed, landed


class Desk:
    """A store with the parts that end, fire, amend and approve orders."""

    def __init__(self, servers: TestServers, store: Store) -> None:
        self.servers = servers
        self.store = store
        self.told: list[Committed] = []
        self.endings = Endings(store.database, store.clock, self.told.extend)
        self.resting = Resting(store.database, store.clock, self.told.extend, wake_after_ms=5_000)
        self.approvals = Approvals(
            store.database,
            store.clock,
            self.told.extend,
            store.halt,
            wake_after_ms=5_000,
            market_order_age_s=30,
        )

    async def place(self, **changes: Any) -> NewOrder:
        """Store a limit order, which rests unless changed."""
        order = changed(
            self.store.new_order(),
            **{
                "order_type": OrderType.LIMIT,
                "time_in_force": TimeInForce.GTC,
                "limit_price": "100",
                "limit_out": 100_000_000,
                **changes,
            },
        )
        await self.store.journal.insert(order, 5)
        return order

    async def awaiting(self, **changes: Any) -> Order:
        """Store a limit order that awaits approval, and return it as it is stored."""
        order = await self.place(**{"approve_within_s": 3_600, **changes})
        return await self.stored(order.id)

    async def stored(self, order_id: str) -> Order:
        """Return an order as it is stored."""
        order = await self.store.orders.get(order_id)
        assert order is not None
        return order

    async def fired(self, **changes: Any) -> NewOrder:
        """Store a limit order and fire it."""
        order = await self.place(**changes)
        assert await self.resting.fire([Fired(order.id, 2, {"triggeredBy": {"price": "1"}})]) == [order.id]
        return order

    async def come_to(self, *statuses: Status, **changes: Any) -> Claimed:
        """Store a limit order, claim it (`routing`) and move it through statuses; return its last state."""
        order = await self.fired(**changes)
        claim = await self.store.claims.claim(order.id)
        assert isinstance(claim, Claimed)
        for status in statuses:
            await self.step(claim, status)
            claim = replace(claim, status=status, version=claim.version + 1)
        return claim

    async def step(self, claim: Claimed, status: Status) -> Committed:
        """Move an order to its next status, with the data that belongs to it."""
        extra: dict[str, object] = {}
        if status is Status.SUBMITTED:
            transaction = SignedTransaction(
                f"tx-{claim.order_id}", "paper", b"bytes", 10**9, 100_000_000, 10**12
            )
            extra["transaction"] = QuotedTransaction(transaction, Amounts(10**9, 100_000_000))
        if status is Status.CONFIRMED:
            extra["outcome"] = landed(Fill(10**9, 100_000_000, f"tx-{claim.order_id}"))
        if status is Status.PENDING:
            extra["retry_in_ms"] = 60_000
        if status in {Status.PENDING, Status.OPEN, Status.FAILED, Status.EXPIRED}:
            extra["detail"] = {
                "attempt": claim.attempts,
                "reason": "slippage_exceeded",
                "detail": "Too little.",
            }
        return await self.store.journal.append(self.store.step(claim, status, **extra))

    def amendment(self, order_id: str, version: int = 2, **changes: Any) -> Amendment:
        """Return an amendment of an open order's limit."""
        detail = changes.pop("detail", {"amended": {"limitPrice": {"from": "100", "to": "200"}}})
        within_s = changes.pop("approve_within_s", None)
        terms = replace(Terms(100, "GTC", "200", 200_000_000), **changes)
        return Amendment(order_id, version, terms, detail, approve_within_s=within_s)

    def stands(self, order_id: str) -> tuple[str, list[str], bool | None, int]:
        """Return an order's state.

        Its status, the statuses of its history, whether its cancellation is requested (None if it has ended),
        and the number of its transactions.
        """
        [row] = rows(
            self.servers,
            "SELECT o.status, jsonb_path_query_array(o.status_history, '$[*].status'), p.cancel_requested,"
            " (SELECT count(*) FROM transactions AS a WHERE a.order_id = o.id)"
            " FROM orders AS o LEFT JOIN open_orders AS p ON p.order_id = o.id WHERE o.id = %s",
            order_id,
        )
        return row

    def finished(self, order_id: str) -> list[str]:
        """Return the statuses under which an order is listed in ``finished_orders``."""
        found = rows(self.servers, "SELECT status FROM finished_orders WHERE order_id = %s", order_id)
        return [status for (status,) in found]


async def race(
    servers: TestServers,
    schedule: str,
    first: Desk,
    one: Callable[[], Awaitable[object]],
    second: Desk,
    other: Callable[[], Awaitable[object]],
) -> tuple[list[object], int]:
    """Run an operation of two processes concurrently.

    Returns:
        Each one's result, and the number of deadlocks.
    """
    actors = [Actor(servers), Actor(servers)]
    runs = [first.store.database.run, second.store.database.run]
    try:
        for actor, desk in zip(actors, (first, second), strict=True):
            actor.replace(desk.store.database)
        outcomes = await interleave(servers, schedule, actors, [one, other])
    finally:
        for run, desk in zip(runs, (first, second), strict=True):
            desk.store.database.run = run  # type: ignore[method-assign]
        for actor in actors:
            actor.close()
    return outcomes, sum(actor.deadlocks for actor in actors)
