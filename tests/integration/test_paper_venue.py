"""The paper venue keeps a chain's promises: a signature lands at most once, in time, for its minimum."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import psycopg2
import pytest
from service.clock import Clock
from service.domain.attempt import Attempt, AttemptState
from service.domain.failures import FailureCode
from service.domain.quote import Dex
from service.settings import FailureRates, Range
from service.store.database import Database, Row, UnavailableError
from service.store.migrations import migrate
from service.venues.paper.constant_product import ConstantProductPool
from service.venues.paper.venue import PaperSettings, PaperVenue
from service.venues.venue import Swap, VenueUnavailableError

from tests.support.servers import TestServers

SETTINGS = PaperSettings(
    seed=7,
    quote_delay_ms=Range(0, 0),
    execution_delay_ms=Range(0, 0),
    price_variance_ppm=Range(20_000, 50_000),
    failure_rates=FailureRates(),
    slot_ms=10,
    valid_slots=1_000,
    group_limit=500,
)


class Rig:
    """A venue on a database, as one process has it."""

    def __init__(self, servers: TestServers, settings: PaperSettings) -> None:
        self.clock = Clock()
        self.database = Database(servers.database_url, size=3, clock=self.clock)
        self.venue = PaperVenue(self.database, self.clock, settings)
        self._orders = Clock()

    def pool(self) -> ConstantProductPool:
        """Return the pool that the tests trade on, as it is now."""
        [raydium] = [ref for ref in self.venue.pools("SOL", "USDC") if ref.dex is Dex.RAYDIUM]
        state = self.venue.snapshot(raydium)
        assert isinstance(state, ConstantProductPool)
        return state

    async def prepare(self, amount_in: int = 10**9, minimum_out: int = 1) -> Attempt:
        """Sign a swap for an order of its own."""
        return await self.venue.prepare(
            Swap(
                order_id=self._orders.new_order_id(),
                attempt=1,
                dex=Dex.RAYDIUM,
                pool_id="raydium:SOL-USDC",
                token_in="SOL",
                token_out="USDC",
                amount_in=amount_in,
                minimum_out=minimum_out,
            )
        )


@asynccontextmanager
async def open_rig(servers: TestServers, settings: PaperSettings = SETTINGS) -> AsyncIterator[Rig]:
    rig = Rig(servers, settings)
    await migrate(rig.database)
    await rig.venue.start()
    yield rig
    await rig.venue.stop()
    await rig.database.close()


@pytest.fixture
async def rig(servers: TestServers) -> AsyncIterator[Rig]:
    async with open_rig(servers) as rig:
        yield rig


async def test_an_unmoved_pool_pays_what_it_quoted(rig: Rig) -> None:
    quote = rig.pool().quote("SOL", 10**9)
    attempt = await rig.prepare(minimum_out=quote.amount_out)
    await rig.venue.submit(attempt)
    status = await rig.venue.outcome(attempt, 5)
    assert status.fill is not None
    assert (status.fill.amount_out, status.fill.tx_hash) == (quote.amount_out, attempt.id)


async def test_submitting_again_changes_nothing(rig: Rig) -> None:
    attempt = await rig.prepare()
    await asyncio.gather(*(rig.venue.submit(attempt) for _ in range(5)))
    first = await rig.venue.outcome(attempt, 5)
    version = rig.pool().version
    assert await rig.venue.submit(attempt) == first
    assert await rig.venue.status(attempt) == first
    assert rig.pool().version == version


async def test_an_attempt_that_was_not_sent_is_unknown(rig: Rig) -> None:
    assert (await rig.venue.status(await rig.prepare())).state is AttemptState.UNKNOWN


async def test_less_than_the_minimum_is_not_paid(rig: Rig) -> None:
    quote = rig.pool().quote("SOL", 10**9)
    before = rig.pool()
    attempt = await rig.prepare(minimum_out=quote.amount_out + 1)
    await rig.venue.submit(attempt)
    status = await rig.venue.outcome(attempt, 5)
    assert status.failure is not None
    assert status.failure.code is FailureCode.SLIPPAGE_EXCEEDED
    assert (rig.pool().reserve_a, rig.pool().reserve_b) == (before.reserve_a, before.reserve_b)


@pytest.mark.parametrize(
    ("amount", "code"),
    [(1, FailureCode.AMOUNT_TOO_SMALL), (2**64 - 1, FailureCode.INSUFFICIENT_LIQUIDITY)],
)
async def test_what_a_pool_cannot_take_fails_with_its_reason(
    rig: Rig, amount: int, code: FailureCode
) -> None:
    attempt = await rig.prepare(amount)
    await rig.venue.submit(attempt)
    status = await rig.venue.outcome(attempt, 5)
    assert status.failure is not None
    assert status.failure.code is code


async def test_expired_is_a_proof(servers: TestServers) -> None:
    async with open_rig(servers, replace(SETTINGS, valid_slots=1)) as rig:
        attempt = await rig.prepare()
        while (status := await rig.venue.status(attempt)).state is AttemptState.UNKNOWN:
            await rig.clock.sleep(0.01)
        assert status.state is AttemptState.EXPIRED
        # The submit that was still on its way finds that it is too late.
        assert (await rig.venue.submit(attempt)).state is AttemptState.EXPIRED
        assert (await rig.venue.status(attempt)).state is AttemptState.EXPIRED


async def test_a_pending_attempt_expires_too_and_moves_no_pool(servers: TestServers) -> None:
    slow = replace(SETTINGS, valid_slots=5, execution_delay_ms=Range(200, 200))
    async with open_rig(servers, slow) as rig:
        version = rig.pool().version
        attempt = await rig.prepare()
        assert (await rig.venue.submit(attempt)).state is AttemptState.PENDING
        assert (await rig.venue.outcome(attempt, 5)).state is AttemptState.EXPIRED
        assert rig.pool().version == version


async def test_a_refused_attempt_lands_never(rig: Rig) -> None:
    attempt = await rig.prepare()
    refused = await rig.venue.refuse(attempt)
    assert refused.state is AttemptState.FAILED
    assert await rig.venue.submit(attempt) == refused
    landed = await rig.prepare()
    await rig.venue.submit(landed)
    await rig.venue.outcome(landed, 5)
    assert (await rig.venue.refuse(landed)).state is AttemptState.LANDED


async def test_what_a_process_left_pending_is_landed_by_another(servers: TestServers) -> None:
    async with open_rig(servers, replace(SETTINGS, execution_delay_ms=Range(100, 100))) as rig:
        attempt = await rig.prepare()
        await rig.venue.submit(attempt)
    async with open_rig(servers) as other:
        assert (await other.venue.outcome(attempt, 10)).state is AttemptState.LANDED


async def test_two_chains_on_one_ledger_land_everything_once(servers: TestServers) -> None:
    async with open_rig(servers) as one, open_rig(servers) as two:
        attempts = [await one.prepare(10**9 + number) for number in range(40)]
        # Each is sent by both, so that both try to execute it.
        await asyncio.gather(*(rig.venue.submit(attempt) for attempt in attempts for rig in (one, two)))
        statuses = await asyncio.gather(*(two.venue.outcome(attempt, 10) for attempt in attempts))
        assert all(status.fill for status in statuses)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT sum(CASE WHEN token_in = 'SOL' THEN amount_in ELSE -amount_out END)"
            " FROM paper_transactions WHERE status = 'landed' AND pool_id = 'raydium:SOL-USDC'"
        )
        [(moved,)] = cursor.fetchall()
        cursor.execute("SELECT reserve_a - home_a FROM paper_pools WHERE id = 'raydium:SOL-USDC'")
        assert cursor.fetchall() == [(moved,)]


@pytest.mark.parametrize(
    "fault",
    [
        UnavailableError("lost", unknown=True),
        psycopg2.DataError("refused"),
        KeyError("a fault of the program's own"),
    ],
    ids=repr,
)
async def test_the_chain_forgets_nothing_after_a_fault(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    async with open_rig(servers) as rig:
        run = rig.database.run
        broken = True

        async def run_with_faults(query: object, parameters: object = None) -> list[Row]:
            if broken and getattr(query, "name", "") in {"paper_settle", "paper_get_pools"}:
                raise fault
            return await run(query, parameters)  # type: ignore[arg-type]

        monkeypatch.setattr(rig.database, "run", run_with_faults)
        attempts = [await rig.prepare(10**9 + number) for number in range(3)]
        await asyncio.gather(*map(rig.venue.submit, attempts))
        assert not (await rig.venue.outcome(attempts[0], 0.3)).final
        broken = False
        statuses = await asyncio.gather(*(rig.venue.outcome(attempt, 10) for attempt in attempts))
        assert [status.state for status in statuses] == [AttemptState.LANDED] * 3


async def test_a_venue_that_is_away_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = await rig.prepare()

    async def away(*_arguments: object) -> list[Row]:
        raise UnavailableError("away", unknown=False)

    monkeypatch.setattr(rig.database, "run", away)
    with pytest.raises(VenueUnavailableError):
        await rig.venue.submit(attempt)
    with pytest.raises(VenueUnavailableError):
        await rig.venue.status(attempt)
