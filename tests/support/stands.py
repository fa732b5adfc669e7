"""What the venue cards need of a venue: how to start it, what trades on it, what only its operator can do.

Another venue passes the same cards: it takes one more class here, in ``STANDS``.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol

from service.chains.venue import Venue
from service.postgres.database import UnavailableError
from service.postgres.queries import Row
from tests.support.paper import SOL, Rig, quiet_slot_ms, settings
from tests.support.servers import TestServers


class Stand(Protocol):
    """A venue on which nobody else trades."""

    token_in: str
    token_out: str
    """A pair that several pools of both DEXs trade."""

    amount: int
    """So little of ``token_in`` that one pool pays best for all of it."""

    large_amount: int
    """So much that both DEXs share it."""

    far_in: str
    far_out: str
    far_amount: int
    """A pair that no pool trades, and two in a row do."""

    dust_in: str
    dust_out: str
    """One base unit of the first is worth less than one of the second."""

    @property
    def venue(self) -> Venue:
        """The venue as it is now: switching a pool off may have started it again."""
        ...

    async def switch_off(self, pool_id: str) -> None:
        """Switch swaps off on a pool."""
        ...

    def losing_answers(self) -> AbstractAsyncContextManager[None]:
        """Let what is submitted arrive, and no answer come back."""
        ...


class StandKind(Protocol):
    """Starts a venue."""

    def __call__(
        self, servers: TestServers, *, balance: int | None = None, short_lived: bool = False
    ) -> AbstractAsyncContextManager[Stand]:
        """Start it.

        Args:
            servers: What there is to start it on.
            balance: Base units of ``token_in`` in the wallet; plenty, if nothing is said.
            short_lived: A transaction can land for a moment only.
        """
        ...


class PaperStand:
    """The paper market."""

    token_in, token_out = "SOL", "USDC"
    amount, large_amount = SOL, 20_000 * SOL
    far_in, far_out, far_amount = "JUP", "BONK", 10**6
    dust_in, dust_out = "BONK", "SOL"

    def __init__(self, rig: Rig, servers: TestServers) -> None:
        self._rig = rig
        self._servers = servers

    @property
    def venue(self) -> Venue:
        return self._rig.venue

    async def switch_off(self, pool_id: str) -> None:
        await self.stop()
        with self._servers.connect() as link, link.cursor() as cursor:
            # A status with which no program swaps.
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


STANDS: dict[str, StandKind] = {"paper": open_paper}
