"""Test stands for the venue cards: start a venue, know its pairs, and operate it.

To run the cards on another venue, add a class to ``STANDS``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from service.chains.paper.pool_json import METEORA_DAMM_V2, RAYDIUM_AMM_V4
from service.chains.venue import Venue
from service.domain.failures import FailureCode
from service.domain.transaction import SignedTransaction
from service.postgres.database import UnavailableError
from service.postgres.queries import Row
from tests.support.paper import SOL, Rig, quiet_slot_ms, settings
from tests.support.servers import TestServers
from tests.support.solana_venue import VenueDesk, venue_desk


class Stand(Protocol):
    """A venue without other traders."""

    token_in: str
    token_out: str
    """A pair that several pools of both DEXs trade."""

    amount: int
    """An amount of ``token_in`` that one pool executes best."""

    large_amount: int
    """An amount that is split over both DEXs."""

    far_in: str
    far_out: str
    far_amount: int
    """A pair without a direct pool but with a two-hop path."""

    dust_in: str
    dust_out: str
    """One base unit of the first is worth less than one of the second."""

    dust_failures: Mapping[str, FailureCode]
    """The programs that do not call an output of zero too small an amount, and what they call it."""

    too_large: FailureCode
    """Why more is not swapped than anybody can have."""

    @property
    def venue(self) -> Venue:
        """The current venue: disabling a pool may have restarted it."""
        ...

    @property
    def height(self) -> int:
        """The height of the last block."""
        ...

    async def outlive(self, transaction: SignedTransaction) -> None:
        """Wait until a transaction can no longer land, and the venue can know that."""
        ...

    async def switch_off(self, pool_id: str) -> None:
        """Disable swaps on a pool."""
        ...

    def losing_answers(self) -> AbstractAsyncContextManager[None]:
        """Let submissions arrive, but lose their responses."""
        ...


class StandKind(Protocol):
    """Starts a venue."""

    def __call__(
        self, servers: TestServers, *, balance: int | None = None, short_lived: bool = False
    ) -> AbstractAsyncContextManager[Stand]:
        """Start it.

        Args:
            servers: The servers to start it on.
            balance: Base units of ``token_in`` in the wallet; plenty by default.
            short_lived: Transactions expire after a moment.
        """
        ...


class PaperStand:
    """The paper market."""

    token_in, token_out = "SOL", "USDC"
    amount, large_amount = SOL, 20_000 * SOL
    far_in, far_out, far_amount = "JUP", "BONK", 10**6
    dust_in, dust_out = "BONK", "SOL"
    dust_failures: Mapping[str, FailureCode] = {}
    too_large = FailureCode.INSUFFICIENT_LIQUIDITY

    def __init__(self, rig: Rig, servers: TestServers) -> None:
        self._rig = rig
        self._servers = servers

    @property
    def venue(self) -> Venue:
        return self._rig.venue

    @property
    def height(self) -> int:
        return self.venue.all_views()[0]

    async def outlive(self, transaction: SignedTransaction) -> None:
        ledger = self._rig.venue._ledger
        while (left_s := ledger.seconds_to(transaction.last_valid_height + 2)) > 0:  # noqa: ASYNC110 - a chain's time
            await asyncio.sleep(left_s)

    async def switch_off(self, pool_id: str) -> None:
        await self.stop()
        with self._servers.connect() as link, link.cursor() as cursor:
            # A status in which no program swaps.
            cursor.execute(
                "UPDATE paper_pools SET state = jsonb_set(state, '{status}', '4') WHERE id = %s", (pool_id,)
            )
            assert cursor.rowcount == 1
        self._rig = Rig(self._servers, self._rig.settings)
        await self._rig.start()

    @asynccontextmanager
    async def losing_answers(self) -> AsyncIterator[None]:
        with _losing_answers(self._rig):
            yield

    async def stop(self) -> None:
        await self._rig.stop()


@contextmanager
def _losing_answers(rig: Rig) -> Iterator[None]:
    async def run_and_lose(query: object, parameters: object = None) -> object:
        rows: list[Row] = await rig.run(query, parameters)  # type: ignore[arg-type]
        if getattr(query, "name", "") == "paper_submit":
            raise UnavailableError("the answer was lost", unknown=True)
        return rows

    rig.database.run = run_and_lose  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        rig.leave_alone()


@asynccontextmanager
async def open_paper(
    servers: TestServers, *, balance: int | None = None, short_lived: bool = False
) -> AsyncIterator[Stand]:
    """Start the paper market."""
    balances = {} if balance is None else {PaperStand.token_in: balance}
    slot_ms, valid_slots = (20, 1) if short_lived else (quiet_slot_ms(servers), 1_000)
    rig = Rig(servers, settings(servers, balances=balances, slot_ms=slot_ms, valid_slots=valid_slots))
    await rig.start()
    stand = PaperStand(rig, servers)
    try:
        yield stand
    finally:
        await stand.stop()


class SandboxStand:
    """The Solana venue on the sandbox's chain, which moves while an outcome is waited for."""

    # Fees are paid in SOL, so that what is sold and bought here changes by the swaps alone.
    token_in, token_out = "USDC", "JUP"
    amount, large_amount = 10**7, 4 * 10**11
    far_in, far_out, far_amount = "JUP", "BONK", 10**6
    dust_in, dust_out = "BONK", "SOL"
    # They compare the output with the minimum, which is at least one, before anything else.
    dust_failures: Mapping[str, FailureCode] = dict.fromkeys(
        (RAYDIUM_AMM_V4, METEORA_DAMM_V2), FailureCode.SLIPPAGE_EXCEEDED
    )
    # What the wallet holds is looked at before the pools.
    too_large = FailureCode.INSUFFICIENT_BALANCE

    def __init__(self, desk: VenueDesk) -> None:
        self._desk = desk

    @property
    def venue(self) -> Venue:
        return self._desk.venue

    @property
    def height(self) -> int:
        return self._desk.chain.tip.height

    async def outlive(self, transaction: SignedTransaction) -> None:
        finalized = self._desk.chain.timing.finalized_after
        await self._desk.pass_slots(transaction.last_valid_height + 2 + finalized - self.height, every=20)

    async def switch_off(self, pool_id: str) -> None:
        await self._desk.switch_off(pool_id)

    @asynccontextmanager
    async def losing_answers(self) -> AsyncIterator[None]:
        for node in self._desk.served.nodes:
            node.faults.arm("lose_answer", method="sendTransaction", times=None)
        try:
            yield
        finally:
            for node in self._desk.served.nodes:
                node.faults.clear()
        await self._desk.pass_slots(1)


@asynccontextmanager
async def open_sandbox(
    servers: TestServers,
    *,
    balance: int | None = None,
    short_lived: bool = False,
) -> AsyncIterator[Stand]:
    """Start the venue on a chain of its own."""
    held = {SandboxStand.token_in: 10**15 if balance is None else balance}
    # With these, two hops would be better than any pool of the pair.
    async with venue_desk(hold=held, unlisted=("SOL-JUP", "USDT-JUP")) as desk:
        yield SandboxStand(desk)


STANDS: dict[str, StandKind] = {"paper": open_paper, "sandbox": open_sandbox}
