"""The whole comparison, from the first question to the report."""

from collections.abc import Sequence
from datetime import datetime

from service.chains.audit import LedgerReport
from service.chains.holding import Holding
from service.chains.solana.auditing.balances import Books
from service.chains.solana.auditing.evidence import EvidenceReader
from service.chains.solana.auditing.nodes import Nodes
from service.chains.solana.auditing.results import Results
from service.chains.solana.auditing.stored import (
    StoredOrder,
    StoredTransaction,
    read_opening,
    read_orders,
    read_venue,
)
from service.chains.solana.auditing.strangers import Beginning, StrangerSearch
from service.chains.solana.auditing.verdicts import judge
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.urls import RpcUrl
from service.clock import Clock
from service.domain.mode import TradingMode
from service.domain.timestamps import format_timestamp
from service.postgres.session import Session
from service.settings import InvalidSettingError

# The venue of a database whose orders are only simulated.
_SIMULATED = f"solana-{TradingMode.SIMULATE}"


class SolanaAudit:
    """Compares the orders with the chain. Implements ``service.chains.audit.VenueAudit``.

    Args:
        urls: Where to read.
        programs: The cluster's programs.
        clock: Measures time.
        since: Only what has changed from this time on; then balances are not compared. None: everything.
    """

    def __init__(
        self, urls: Sequence[RpcUrl], programs: AmmPrograms, clock: Clock, since: datetime | None = None
    ) -> None:
        self._urls = urls
        self._programs = programs
        self._clock = clock
        self._since = since

    async def compare(self, session: Session) -> LedgerReport:
        """Compare every order with the chain, and the wallet's balances with the orders."""
        venue = await read_venue(session)
        if venue is None:
            return Results().report()
        if venue.kind == _SIMULATED:
            results = Results()
            results.note(
                venue.wallet, "the orders were only simulated: there is nothing on a chain to compare"
            )
            return results.report()
        if venue.kind != "solana":
            raise InvalidSettingError(f"this database belongs to the venue {venue}: no order is on a chain")
        nodes = Nodes(Endpoints(self._urls, self._clock, venue.market), self._clock)
        try:
            await nodes.open(venue.market)
            comparison = _Comparison(nodes, self._programs, session, venue.wallet, self._since)
            return await comparison.run()
        finally:
            await nodes.close()


class _Comparison:
    """One comparison.

    Args:
        nodes: The nodes, opened.
        programs: The cluster's programs.
        session: The database.
        wallet: The wallet's public key.
        since: As of the audit.
    """

    def __init__(
        self,
        nodes: Nodes,
        programs: AmmPrograms,
        session: Session,
        wallet: str,
        since: datetime | None,
    ) -> None:
        self._nodes = nodes
        self._evidence = EvidenceReader(nodes, programs)
        self._session = session
        self._wallet = wallet
        self._since = since
        self._results = Results()
        self._first_slot: int | None = None

    async def run(self) -> LedgerReport:
        """Compare everything, and return the report."""
        opening = await read_opening(self._session)
        # Before the orders: what has changed a balance by then is known when they are read.
        held = await self._nodes.holdings(self._wallet, opening) if self._since is None else []
        books = Books(opening, held)
        names = {each.mint: each.token for each in opening}
        since = None if self._since is None else format_timestamp(self._since)
        async for page in read_orders(self._session, since):
            await self._nodes.keep_up()
            evidence = await self._evidence.of([each for order in page for each in order.settled])
            for order in page:
                judge(order, evidence, names, self._results)
                books.add_order(order, evidence)
            self._note_first_slot(page)
            await self._add_in_flight([each for order in page if (each := order.in_flight)], books)
        search = StrangerSearch(self._nodes, self._session, self._wallet, opening, books, self._results)
        beginning = self._beginning(opening, books.landed)
        complete = beginning is None or await search.run(beginning)
        if not complete:
            self._results.warn(self._wallet, _incomplete(beginning))
        untold = search.landed - books.landed
        if untold > 0:
            what = f"{untold} transactions of orders are in the chain, and no endpoint tells what they did"
            self._results.warn(self._wallet, f"not verifiable: {what}")
            complete = False
        self._compare_balances(opening, books, complete=complete)
        return self._results.report()

    async def _add_in_flight(self, transactions: Sequence[StoredTransaction], books: Books) -> None:
        """Add what transactions did that are in a final block already, and not recorded yet."""
        self._results.in_flight += len(transactions)
        for found in (await self._evidence.receipts(transactions)).values():
            if found.receipt is not None:
                books.add_receipt(found.receipt)

    def _note_first_slot(self, page: Sequence[StoredOrder]) -> None:
        slots = [
            each.validity.blockhash_slot
            for order in page
            for each in order.transactions
            if each.validity is not None
        ]
        if self._first_slot is not None:
            slots.append(self._first_slot)
        self._first_slot = min(slots, default=None)

    def _beginning(self, opening: Sequence[Holding], landed: int) -> Beginning | None:
        """Return where to begin to look for others' transactions; None: nothing was sent yet."""
        slots = [each.slot for each in opening]
        if self._since is not None:
            return Beginning(min(slots, default=None), self._since.timestamp())
        if self._first_slot is not None:
            slots.append(self._first_slot)
        return Beginning(min(slots), landed=landed) if slots else None

    def _compare_balances(self, opening: Sequence[Holding], books: Books, *, complete: bool) -> None:
        if self._since is not None:
            self._results.note(self._wallet, "the balances are compared only without --since")
        elif opening:
            books.compare(self._results, complete=complete)
        else:
            self._results.warn(
                self._wallet, "balances are not verifiable: the next start records the opening balances"
            )


def _incomplete(beginning: Beginning | None) -> str:
    where = "" if beginning is None or beginning.slot is None else f" from slot {beginning.slot} on"
    return f"not verifiable: no endpoint has all transactions of the wallet{where}"
