"""The paper venue as the engine sees it: quotes after a delay, a submit that is idempotent."""

import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from service.clock import Clock
from service.domain.attempt import Attempt, AttemptStatus
from service.settings import FailureRates, Range
from service.store.batch import Batcher
from service.store.database import Database
from service.venues.paper.chain import Chain
from service.venues.paper.constant_product import ConstantProductPool
from service.venues.paper.ledger import Ledger
from service.venues.paper.market import found_pools
from service.venues.paper.transaction import PaperTransaction, Wallet, decode
from service.venues.venue import PoolRef, Swap

log = logging.getLogger(__name__)

# How long a transaction that another instance may be executing goes unasked after.
_ASK_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """How the paper market behaves; see the settings of the same names."""

    seed: int | None
    quote_delay_ms: Range
    execution_delay_ms: Range
    price_variance_ppm: Range
    failure_rates: FailureRates
    slot_ms: int
    valid_slots: int
    group_limit: int


class PaperVenue:
    """A market of its own in the engine's PostgreSQL. Fits ``service.venues.venue.Venue``."""

    def __init__(self, database: Database, clock: Clock, settings: PaperSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._ledger = Ledger(database, clock, slot_ms=settings.slot_ms)
        self._chain = Chain(self._ledger, clock, settings.failure_rates, group_limit=settings.group_limit)
        self._submits = Batcher(
            self._submit_group,
            clock=clock,
            name="paper submit",
            key=lambda arrival: arrival[0].signature,
            largest=settings.group_limit,
        )
        self._refs: dict[tuple[str, str], list[PoolRef]] = {}
        self._wallet: Wallet | None = None

    async def start(self) -> None:
        """Found the market, if it does not exist, and start its chain."""
        wanted = self._settings.seed
        seed = await self._ledger.found_market(self._clock.between(0, 10**9) if wanted is None else wanted)
        if wanted not in {None, seed}:
            log.warning("this database's paper market has seed %d: PAPER_SEED has no effect", seed)
        pools = found_pools(seed, self._settings.price_variance_ppm, self._clock)
        await self._ledger.open_pools(pools)
        await self._chain.start(seed)
        self._wallet = Wallet(seed)
        for pool in self._chain.pools.values():
            ref = PoolRef(pool.id, pool.dex)
            for pair in ((pool.token_a, pool.token_b), (pool.token_b, pool.token_a)):
                refs = self._refs.setdefault(pair, [])
                if ref not in refs:
                    refs.append(ref)

    async def stop(self) -> None:
        """Stop the chain; what is pending lands after the next start."""
        await self._submits.stop()
        await self._chain.stop()

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools that trade a pair, in a fixed order."""
        return self._refs.get((token_in, token_out), [])

    def snapshot(self, pool: PoolRef) -> ConstantProductPool | Awaitable[ConstantProductPool]:
        """Return a pool as it is now, or, with a quote delay, as it is after that."""
        delay = self._settings.quote_delay_ms
        if delay.high == 0:
            return self._chain.pools[pool.id]
        return self._snapshot_later(pool, self._clock.between(delay.low, delay.high) / 1000)

    async def _snapshot_later(self, pool: PoolRef, delay_s: float) -> ConstantProductPool:
        await self._clock.sleep(delay_s)
        return self._chain.pools[pool.id]

    async def prepare(self, swap: Swap) -> Attempt:
        """Sign a swap that can land in the next slots."""
        if self._wallet is None:
            raise RuntimeError("the paper venue has not been started")
        last_valid_slot = self._ledger.slot_now() + self._settings.valid_slots
        return self._wallet.sign(swap, last_valid_slot)

    async def submit(self, attempt: Attempt) -> AttemptStatus:
        """Send an attempt to the chain; one that is there already stays as it is."""
        delay = self._settings.execution_delay_ms
        return await self._submits.submit((decode(attempt), self._clock.between(delay.low, delay.high)))

    async def refuse(self, attempt: Attempt) -> AttemptStatus:
        """Refuse an attempt for good, unless the chain has it already."""
        return await self._ledger.refuse(decode(attempt))

    async def status(self, attempt: Attempt) -> AttemptStatus:
        """Ask the chain what became of an attempt."""
        [status] = await self._ledger.ask([decode(attempt)])
        return status

    async def outcome(self, attempt: Attempt, timeout_s: float) -> AttemptStatus:
        """Wait for an attempt's outcome: told by the chain here, or asked for now and then."""
        deadline = self._clock.monotonic() + timeout_s
        while True:
            left_s = deadline - self._clock.monotonic()
            status = await self._chain.settled(attempt.id, max(0, min(left_s, _ASK_AFTER_S)))
            if status is None:
                status = await self.status(attempt)
            if status.final or left_s <= _ASK_AFTER_S:
                return status

    async def _submit_group(
        self, arrivals: list[tuple[PaperTransaction, int]]
    ) -> list[AttemptStatus | Exception]:
        statuses = await self._ledger.submit(arrivals)
        for (transaction, delay_ms), status in zip(arrivals, statuses, strict=True):
            if not status.final:
                self._chain.accept(transaction, delay_ms)
        return list(statuses)
