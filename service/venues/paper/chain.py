"""The paper chain: executes transactions against the pools, in the order in which they land.

What is due at the same moment executes as one group and one commit. After each fill the market's own
traders bring the pool's price back home, in the same commit. Every instance runs a chain; two that
execute the same transaction or move the same pool cannot both commit, and the loser computes again on
what it then reads.
"""

import asyncio
import heapq
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import psycopg2

from service import crash_points
from service.background import Background
from service.clock import Clock
from service.domain.attempt import AttemptStatus
from service.domain.failures import FailureCode
from service.settings import PPM, FailureRates
from service.venues.paper.constant_product import ConstantProductPool
from service.venues.paper.ledger import Execution, Ledger, MarketTrade
from service.venues.paper.transaction import PaperTransaction, market_signature
from service.venues.venue import QuoteRefusedError, VenueUnavailableError

log = logging.getLogger(__name__)

_RECENT = 10_000
_REFRESH_S = 1.0
_LATE_MS = 2_000
_PAUSE_AFTER_FAULT_S = 0.2


@dataclass(order=True, slots=True)
class _Due:
    """A transaction in the order of landing: by time, then by arrival."""

    at: float
    arrival: int
    transaction: PaperTransaction = field(compare=False)


class Chain:
    """Executes what has been submitted.

    Args:
        ledger: where pools and transactions are.
        clock: PostgreSQL's time, and the seeded numbers that decide failures.
        failure_rates: how many executions fail, for tests and demos.
        group_limit: how many transactions execute in one commit.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, failure_rates: FailureRates, *, group_limit: int
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._failure_rates = failure_rates
        self._group_limit = group_limit
        self._seed = 0
        self._due: list[_Due] = []
        self._known: set[str] = set()
        self._arrivals = 0
        self._changed = asyncio.Event()
        self._waiters: dict[str, list[asyncio.Future[AttemptStatus]]] = {}
        # What was settled a moment ago, for those who ask just after.
        self._recent: dict[str, AttemptStatus] = {}
        self._next_refresh = 0.0
        self._executor = Background("paper chain", self._execute_for_ever, clock)
        self.pools: dict[str, ConstantProductPool] = {}
        """Every pool as last seen, by id."""

    async def start(self, seed: int) -> None:
        """Read the pools and begin to execute.

        Args:
            seed: the market's, which decides what fails.
        """
        self._seed = seed
        await self._refresh()
        self._executor.start()

    async def stop(self) -> None:
        """Stop executing; what is pending lands after the next start."""
        await self._executor.stop()

    def accept(self, transaction: PaperTransaction, delay_ms: int) -> None:
        """Execute a pending transaction after a delay; once, however often it is accepted."""
        if transaction.signature in self._known:
            return
        self._known.add(transaction.signature)
        self._push(transaction, self._clock.database_time() + delay_ms / 1000 if delay_ms else 0.0)
        self._changed.set()

    async def settled(self, signature: str, timeout_s: float) -> AttemptStatus | None:
        """Wait for a transaction to be settled here; None when that does not happen in time."""
        if signature in self._recent:
            return self._recent[signature]
        waiter: asyncio.Future[AttemptStatus] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(signature, []).append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            waiters = self._waiters.get(signature)
            if waiters is not None:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[signature]

    async def _execute_for_ever(self) -> None:
        while True:
            try:
                await self._turn()
            except VenueUnavailableError as error:
                log.warning("paper chain: PostgreSQL is away (%s)", error, extra={"fault": "postgresql"})
                await self._clock.sleep(_PAUSE_AFTER_FAULT_S)

    async def _turn(self) -> None:
        """Execute what is due, or wait until something is."""
        now = self._clock.database_time()
        if self._clock.monotonic() >= self._next_refresh:
            await self._refresh()
        group = self._take_due(now)
        if group:
            try:
                await self._execute(group)
            except BaseException:
                self._forget(group)
                raise
            return
        self._changed.clear()
        wait_s = self._next_refresh - self._clock.monotonic()
        if self._due:
            wait_s = min(wait_s, self._due[0].at - now)
        try:
            async with asyncio.timeout(max(wait_s, 0)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _refresh(self) -> None:
        """See what other instances have moved, and take over what one of them left."""
        self._next_refresh = self._clock.monotonic() + _REFRESH_S
        pools = await self._ledger.pools()
        for pool_id, pool in pools.items():
            seen = self.pools.get(pool_id)
            if seen is None or seen.version < pool.version:
                self.pools[pool_id] = pool
        for transaction in await self._ledger.stragglers(_LATE_MS):
            self.accept(transaction, 0)

    def _take_due(self, now: float) -> list[PaperTransaction]:
        group: list[PaperTransaction] = []
        while self._due and self._due[0].at <= now and len(group) < self._group_limit:
            group.append(heapq.heappop(self._due).transaction)
        return group

    async def _execute(self, group: list[PaperTransaction]) -> None:
        executions: list[Execution] = []
        own_trades: list[MarketTrade] = []
        moved: dict[str, ConstantProductPool] = {}
        for transaction in group:
            pool = moved.get(transaction.pool_id) or self.pools[transaction.pool_id]
            execution, pool, trades = self._execute_one(transaction, pool)
            executions.append(execution)
            own_trades.extend(trades)
            moved[pool.id] = pool
        seen = [(self.pools[pool.id].version, pool) for pool in moved.values()]
        try:
            crash_points.reach("before settle")
            booked = await self._ledger.settle(executions, seen, own_trades)
            crash_points.reach("after settle")
        except psycopg2.Error:
            # One that cannot be booked must not hold the others: it is tried again after a while, until
            # it expires.
            if len(group) > 1:
                for transaction in group:
                    await self._execute([transaction])
            else:
                log.exception("paper chain: %s cannot be booked", group[0].signature)
                self._forget(group)
            return
        self.pools.update((pool_id, moved[pool_id]) for pool_id in booked)
        for execution in executions:
            if execution.pool_id in booked:
                self._tell(execution.signature, execution.status)
        beaten = [t for t in group if t.pool_id not in booked]
        if beaten:
            await self._reconsider(beaten)

    def _execute_one(
        self, transaction: PaperTransaction, pool: ConstantProductPool
    ) -> tuple[Execution, ConstantProductPool, list[MarketTrade]]:
        """Execute one transaction on a pool; return what came of it, the pool, the market's trades."""
        amount_out, failure = self._swap(transaction, pool)
        execution = Execution(transaction.signature, pool.id, amount_out, failure)
        if amount_out is None:
            # The version moves all the same: it is what the next execution's luck is drawn from.
            return execution, pool.after(transaction.token_in, 0, 0), []
        pool = pool.after(transaction.token_in, transaction.amount_in, amount_out)
        restoring = pool.restoring_trade()
        if restoring is None:
            return execution, pool, []
        token, amount = restoring
        try:
            quote = pool.quote(token, amount)
        except QuoteRefusedError:
            return execution, pool, []
        pool = pool.after(token, amount, quote.amount_out)
        trade = MarketTrade(
            signature=market_signature(pool.id, pool.version),
            venue=pool.dex,
            pool_id=pool.id,
            token_in=token,
            token_out=pool.other(token),
            amount_in=amount,
            amount_out=quote.amount_out,
        )
        return execution, pool, [trade]

    def _swap(
        self, transaction: PaperTransaction, pool: ConstantProductPool
    ) -> tuple[int | None, FailureCode | None]:
        failure = self._draw_failure(pool)
        if failure is not None:
            return None, failure
        try:
            quote = pool.quote(transaction.token_in, transaction.amount_in)
        except QuoteRefusedError as refusal:
            return None, refusal.code
        if quote.amount_out < transaction.minimum_out:
            return None, FailureCode.SLIPPAGE_EXCEEDED
        return quote.amount_out, None

    def _draw_failure(self, pool: ConstantProductPool) -> FailureCode | None:
        rates = self._failure_rates
        if rates == FailureRates():
            return None
        luck = self._clock.seeded(f"luck:{self._seed}:{pool.id}:{pool.version}").randrange(PPM)
        for rate_ppm, code in (
            (rates.transient_ppm, FailureCode.TRANSACTION_FAILED),
            (rates.slippage_ppm, FailureCode.SLIPPAGE_EXCEEDED),
            (rates.permanent_ppm, FailureCode.TRANSACTION_REJECTED),
        ):
            if luck < rate_ppm:
                return code
            luck -= rate_ppm
        return None

    async def _reconsider(self, group: Iterable[PaperTransaction]) -> None:
        """Tell what became of transactions that were not booked here; those still pending go on."""
        transactions = list(group)
        await self._refresh()
        for transaction, status in zip(transactions, await self._ledger.ask(transactions), strict=True):
            if status.final:
                self._tell(transaction.signature, status)
            else:
                self._push(transaction, 0.0)

    def _forget(self, group: Iterable[PaperTransaction]) -> None:
        """Leave it to the ledger which of a group are still pending: the next refresh brings them back."""
        for transaction in group:
            self._known.discard(transaction.signature)
        self._next_refresh = 0.0

    def _push(self, transaction: PaperTransaction, at: float) -> None:
        self._arrivals += 1
        heapq.heappush(self._due, _Due(at, self._arrivals, transaction))

    def _tell(self, signature: str, status: AttemptStatus) -> None:
        self._known.discard(signature)
        self._recent[signature] = status
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        for waiter in self._waiters.get(signature, ()):
            if not waiter.done():
                waiter.set_result(status)
