"""What a venue is to the engine: pools that quote, and a ledger that takes signed transactions.

Quoting is pure: a pool's state and an amount give a quote. Executing is prepare, submit, ask:
``prepare`` signs, ``submit`` sends (again and again, if need be: it is idempotent by the transaction's id),
and ``status`` tells what became of it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.amm import ChainTime, PoolState, Ratio
from service.domain.quote import Dex, Route
from service.domain.tokens import Token
from service.domain.transaction import SignedTransaction, TransactionStatus


class SwapTooLateError(Exception):
    """No slot that is left before the swap's time is over."""


class VenueUnavailableError(Exception):
    """The venue did not answer. What was sent may or may not have arrived: ask again by its id."""


@dataclass(frozen=True, slots=True)
class PoolRef:
    """A pool that trades a pair: A is the first token of its program's state."""

    id: str
    dex: Dex
    token_a: str
    token_b: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pool at one moment, which is also the moment for which it quotes."""

    pool: PoolRef
    state: PoolState
    now: ChainTime


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it is shown to people.

    ``amount_a`` and ``amount_b`` are base units in the pool's accounts; ``price`` is B per A at the margin,
    before fees, in base units, None for an empty pool. ``opened_at`` is seconds since the Unix epoch.
    """

    pool: PoolRef
    program: str
    amount_a: int
    amount_b: int
    price: Ratio | None
    opened_at: float


class Traded(NamedTuple):
    """What was traded in a pool in one second since the Unix epoch: base units that went in or came out."""

    pool_id: str
    second: int
    volume_a: int
    volume_b: int


@dataclass(frozen=True, slots=True)
class MarketChange:
    """What has changed in the market: pools, by id (new and gone ones too), and what was traded.

    ``complete``: nothing was missed before it; else ``traded_since`` tells what was. ``came_or_went`` are the
    pools that are new or gone.
    """

    pool_ids: frozenset[str]
    traded: tuple[Traded, ...]
    complete: bool = True
    came_or_went: tuple[PoolRef, ...] = ()


OnMarketChange = Callable[[MarketChange], None]
"""Told of every change as soon as it can be quoted here. Must not wait."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What an order wants executed: the whole route or nothing, within both limits.

    ``attempt`` numbers the order's attempts. ``maximum_in`` and ``minimum_out`` are base units; an exact-in
    route pays its ``amount_in``, an exact-out route pays out its ``amount_out``. It may land only in slots
    that end by ``valid_until``, and no longer after ``submit_by`` than transactions take to land; both in
    seconds since the Unix epoch.
    """

    order_id: str
    attempt: int
    route: Route
    maximum_in: int
    minimum_out: int
    valid_until: float | None = None
    submit_by: float | None = None


class MarketData(Protocol):
    """What can be traded, and at what prices."""

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools that trade a pair directly, whichever their A, in a fixed order."""
        ...

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the state of pools of one DEX: at once where it is at hand, else an awaitable.

        Raises:
            VenueUnavailableError: Also from the awaitable.
        """
        ...

    def known(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        """Return pools as they are known here, without asking anybody; those that are gone are left out."""
        ...

    async def refresh(self) -> bool:
        """Learn what has changed and was not heard of; return whether anything had.

        Raises:
            VenueUnavailableError: Nothing was learned.
        """
        ...

    def on_change(self, callback: OnMarketChange) -> None:
        """Call back whenever the market has changed."""
        ...

    async def traded_since(self, seconds: int) -> Sequence[Traded]:
        """Return what was traded in the last so many seconds, an hour at most.

        Raises:
            VenueUnavailableError: Nothing was learned.
        """
        ...

    def survey(self) -> tuple[int, Iterable[PoolView]]:
        """Return the slot, and every pool as it is known here now, one by one in the order of their ids."""
        ...

    def views(self, pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        """Return pools as they are shown; those that are gone are left out."""
        ...

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that some pool trades, as they are known here."""
        ...

    async def learn(self, names: Collection[str]) -> None:
        """Learn what tokens there are of these symbols or mints, and the pools of those not heard of.

        Raises:
            VenueUnavailableError: Nothing was learned.
        """
        ...


class Execution(Protocol):
    """Signs transactions, sends them, and tells what became of them."""

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign a transaction; nothing is sent.

        Raises:
            VenueUnavailableError: Nothing was signed.
            SwapTooLateError: Its time is over before it could land.
        """
        ...

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction; sending it again changes nothing.

        Raises:
            VenueUnavailableError: It may have arrived.
        """
        ...

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Return what the venue knows of a transaction.

        Raises:
            VenueUnavailableError: Nothing was learned.
        """
        ...

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait until a transaction's status is final or the time is over, and return it.

        Raises:
            VenueUnavailableError: Nothing was learned.
        """
        ...


class Venue(MarketData, Execution, Protocol):
    """A market with its execution: paper, or a chain."""
