"""Three endpoints of one chain, of which one lags, one denies every transaction and one fails."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable

import pytest

from service.app import Service
from service.chains.solana.venue import SolanaVenue
from service.chains.venue import PoolRef, Snapshot
from tests.support import report
from tests.support.judge import open_orders
from tests.support.orders import Client, place
from tests.support.paper import until
from tests.support.servers import TestServers
from tests.support.solana_judge import judge_on_chain
from tests.support.solana_sandbox import SandboxProcess, sandbox_process

SLOT_MS = 100
MAX_SNAPSHOT_SLOTS = 10
LAG = 15
"""Less than what an endpoint may lag that is read from, and more than a snapshot may be old."""

LAGS, DENIES, FAILS, SEES_ALL = "/", "/2", "/3", "/4"
LOOK_EVERY_S = 0.05
ENDED_WITHIN_S = 90


class _Ages:
    """How old the state is that the service quotes from, by an endpoint that it does not know.

    Args:
        venue: The service's; every snapshot that it takes is noted.
        chain: The chain.
    """

    def __init__(self, venue: SolanaVenue, chain: SandboxProcess) -> None:
        self.slots: list[int] = []
        self._feed = venue.feed
        self._chain = chain
        self._slot = 0
        self._snapshot = venue.feed.snapshot
        venue.feed.snapshot = self._noted  # type: ignore[method-assign]

    async def watch(self) -> None:
        """Keep asking which slot it is."""
        while True:
            params = {"commitment": "processed"}
            self._slot = await asyncio.to_thread(self._chain.call, "getSlot", params, path=SEES_ALL)
            await asyncio.sleep(LOOK_EVERY_S)

    def _noted(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        found = self._snapshot(pools)
        if isawaitable(found):
            return self._note_later(found, pools)
        self._note(pools)
        return found

    async def _note_later(
        self, found: Awaitable[Sequence[Snapshot]], pools: Sequence[PoolRef]
    ) -> Sequence[Snapshot]:
        snapshots = await found
        self._note(pools)
        return snapshots

    def _note(self, pools: Sequence[PoolRef]) -> None:
        if self._slot and pools:
            self.slots.append(self._slot - min(self._feed._pools[pool.id].slot for pool in pools))


def _arm(chain: SandboxProcess) -> None:
    chain.arm("behind", LAGS, times=None, slots=LAG)
    chain.arm("drop", LAGS, times=None, rate_ppm=500_000)
    chain.arm("no_transactions", DENIES, times=None)
    chain.arm("drop", DENIES, times=None)
    for kind, rate_ppm in (("down", 200_000), ("unavailable", 200_000), ("lose_answer", 200_000)):
        chain.arm(kind, FAILS, times=None, rate_ppm=rate_ppm)


async def _quote(client: Client) -> int:
    """Return the status of a request for a quote."""
    async with client.get("/api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=1") as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("orders", [24, pytest.param(600, marks=pytest.mark.long)])
async def test_quotes_stay_fresh_and_orders_end_as_the_chain_says(
    servers: TestServers,
    make_service: Callable[..., Service],
    aiohttp_client: Callable[..., Awaitable[Client]],
    orders: int,
) -> None:
    with sandbox_process(4, SLOT_MS) as chain:
        before = chain.balances()
        urls = ",".join(f"{chain.url}{path}" for path in (LAGS, DENIES, FAILS))
        changes = {"SOLANA_RPC_URLS": urls, "SOLANA_MAX_SNAPSHOT_SLOTS": str(MAX_SNAPSHOT_SLOTS)}
        service = make_service(**{**chain.settings, **changes})
        client = await aiohttp_client(service.web)
        venue = service.market.venue
        assert isinstance(venue, SolanaVenue)
        # Until then the length of a slot is not known, nor how old state is.
        await until(lambda: venue.slot_ms <= 2 * SLOT_MS, within_s=60)
        _arm(chain)
        ages = _Ages(venue, chain)
        watching = asyncio.create_task(ages.watch())
        placed, statuses = [], []
        for number in range(orders):
            order = await place(client, amountIn=str(1 + number % 3))
            placed.append(order["orderId"])
            statuses += [await _quote(client) for _ in range(3)]
            await asyncio.sleep(0.1)
        async with asyncio.timeout(ENDED_WITHIN_S):
            while await asyncio.to_thread(open_orders, servers):
                statuses.append(await _quote(client))
                await asyncio.sleep(0.2)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        verdict = await asyncio.to_thread(judge_on_chain, servers, chain, before, placed)
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": orders}
    assert set(statuses) == {200}
    # One look apart, and the answer's own time.
    assert max(ages.slots) <= MAX_SNAPSHOT_SLOTS + 3, sorted(ages.slots)[-20:]
    note = f"{len(ages.slots)} snapshots, the oldest of {max(ages.slots)} slots"
    report.add(report.Row("solana: one endpoint lags, one denies, one fails", 3, orders, note=note))
