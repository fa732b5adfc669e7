"""The venue interface: pools that quote, and a ledger that executes signed transactions.

Quoting is pure: it depends only on a pool's state and the amount. ``prepare`` signs a transaction, ``submit``
sends it (idempotent by the transaction's id, so it can be repeated), and ``status`` returns its state.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.amm import ChainTime, PoolState, Ratio
from service.domain.failures import Failure
from service.domain.mode import TradingMode
from service.domain.quote import Dex, Route
from service.domain.tokens import Token
from service.domain.transaction import SignedTransaction, SimulatedSwap, TransactionStatus


class SwapTooLateError(Exception):
    """No slot is left before the swap's deadline."""


class VenueRefusedError(Exception):
    """The venue does not sign the swap, so nothing can land; ``failure`` says why and whether to retry."""

    def __init__(self, failure: Failure, simulated: SimulatedSwap | None = None) -> None:
        super().__init__(failure.detail)
        self.failure, self.simulated = failure, simulated


class VenueUnavailableError(Exception):
    """The venue did not answer. A transaction may or may not have arrived: query it again by its id."""


@dataclass(frozen=True, slots=True)
class PoolRef:
    """A pool that trades a pair: A is the first token of its program's state."""

    id: str
    dex: Dex
    token_a: str
    token_b: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pool's state at one moment, and that moment, for which it quotes."""

    pool: PoolRef
    state: PoolState
    now: ChainTime


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as the API shows it.

    ``amount_a`` and ``amount_b`` are base units in the pool's accounts; ``price`` is the marginal price, B
    per A, before fees, in base units, None for an empty pool. ``opened_at`` is in seconds since the Unix
    epoch.
    """

    pool: PoolRef
    program: str
    amount_a: int
    amount_b: int
    price: Ratio | None
    opened_at: float


class Traded(NamedTuple):
    """A pool's volume in one second since the Unix epoch: base units traded in or out."""

    pool_id: str
    second: int
    volume_a: int
    volume_b: int


@dataclass(frozen=True, slots=True)
class MarketChange:
    """A change of the market: the changed pools' ids (new and removed ones included), and the volume.

    If ``complete`` is false, earlier changes were missed; read their volume with ``traded_since``.
    ``added_or_removed`` are the new and the removed pools.
    """

    pool_ids: frozenset[str]
    traded: tuple[Traded, ...]
    complete: bool = True
    added_or_removed: tuple[PoolRef, ...] = ()


OnMarketChange = Callable[[MarketChange], None]
"""Called with every change as soon as it can be quoted here. Must not block."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What the wallet holds of a token, in base units.

    Attributes:
        free: What a new order can pay.
        in_flight: The most that transactions which the venue has, and which can still land, may take.
        reserved: What no order can pay, because it is kept for network fees.
    """

    free: int = 0
    in_flight: int = 0
    reserved: int = 0

    @classmethod
    def of(cls, total: int, *, in_flight: int, reserve: int) -> "Balance":
        """Divide a balance: first what is in flight, then the reserve; the rest is free.

        Args:
            total: The balance.
            in_flight: The most that transactions may still take; it may exceed the balance.
            reserve: What is to be kept for network fees; it may exceed the balance.
        """
        taken = min(total, in_flight)
        reserved = min(total - taken, reserve)
        return cls(total - taken - reserved, taken, reserved)

    @property
    def total(self) -> int:
        """The balance as of the latest state that the venue shows."""
        return self.free + self.in_flight + self.reserved


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap to execute atomically: the whole route or nothing, within both limits.

    ``attempt`` numbers the order's attempts, of which ``expired_attempts`` ended because their transactions
    expired. ``maximum_in`` and ``minimum_out`` are base units; an exact-in
    route pays exactly its ``amount_in``, an exact-out route pays out exactly its ``amount_out``. It may land
    only in slots that end by ``valid_until``, and after ``submit_by`` only for as long as transactions take
    to land; both in seconds since the Unix epoch.
    """

    order_id: str
    attempt: int
    route: Route
    maximum_in: int
    minimum_out: int
    valid_until: float | None = None
    submit_by: float | None = None
    expired_attempts: int = 0


@dataclass(frozen=True, slots=True)
class VenueIdentity:
    """Which market, and whose wallet in it: what must not change while orders are open.

    Attributes:
        kind: The kind of venue, such as ``paper``.
        market: Which one of its kind: a chain's genesis hash, the paper market's seed.
        wallet: The wallet that pays: a public key, or the paper market's only user.
    """

    kind: str
    market: str
    wallet: str

    def __str__(self) -> str:
        return f"{self.kind} (market {self.market}, wallet {self.wallet})"


class MarketData(Protocol):
    """Market data: pools, tokens, prices and volumes."""

    @property
    def slot_ms(self) -> int:
        """The length of a slot in milliseconds, as far as it is known now: a chain's is measured."""
        ...

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools that trade a pair directly, with either token as A, in a fixed order."""
        ...

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the state of pools of one DEX: a sequence if it is in memory, otherwise an awaitable.

        Raises:
            VenueUnavailableError: Also from the awaitable.
        """
        ...

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        """Return the local state of pools, without I/O; removed pools are left out."""
        ...

    async def refresh(self) -> bool:
        """Fetch changes that have not arrived yet; return whether there were any.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...

    def on_change(self, callback: OnMarketChange) -> None:
        """Register a callback for changes of the market."""
        ...

    async def traded_since(self, seconds: int) -> Sequence[Traded]:
        """Return the volumes of the last ``seconds``, at most an hour.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...

    def all_views(self) -> tuple[int, Iterable[PoolView]]:
        """Return the slot, and an iterator over the views of all pools from local state, ordered by id."""
        ...

    def views(self, pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        """Return pools as the API shows them; removed pools are left out."""
        ...

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that some pool trades, from local state."""
        ...

    async def fetch_tokens(self, names: Collection[str]) -> None:
        """Fetch the tokens with these symbols or mints, and the pools of tokens that were unknown here.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...


class Execution(Protocol):
    """Signs and sends transactions, and returns their outcomes."""

    @property
    def outcomes_take_long(self) -> bool:
        """Whether an outcome takes so long that no worker waits for it after a transaction was sent."""
        ...

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign a transaction without sending it.

        Raises:
            VenueUnavailableError: Nothing was signed.
            VenueRefusedError: Nothing was signed, for this reason.
            SwapTooLateError: Its deadline is before the first slot in which it could land.
        """
        ...

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction; sending it again changes nothing.

        PENDING without ``seen`` may mean only that a node accepted it: ``status`` and ``outcome`` say whether
        the venue has it.

        Raises:
            VenueUnavailableError: It may have arrived.
        """
        ...

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Return a transaction's state at the venue.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait until a transaction's state is final or the time-out is over, and return it.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...


class Wallet(Protocol):
    """The wallet that pays for orders, and is paid."""

    @property
    def address(self) -> str | None:
        """Its public address; None if it has none."""
        ...

    def is_unlimited(self, token: str) -> bool:
        """Return whether it can pay any order in a token, so that none need be compared with its balance."""
        ...

    async def balance(self, token: str) -> Balance:
        """Return what it holds of a token; concurrent calls share a read.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...

    async def balances(self, limit: int, after: str | None = None) -> Sequence[tuple[Token, Balance]]:
        """Return the tokens that it has ever held, by their symbols, each with what it holds now.

        Args:
            limit: The maximum number of tokens.
            after: Begin after this token; None: with the first.

        Raises:
            VenueUnavailableError: The venue did not answer.
        """
        ...


class Venue(MarketData, Execution, Wallet, Protocol):
    """Market data, execution and the wallet of one venue: the paper market, or a chain.

    ``identity`` and ``start`` come first, in this order, and may be repeated if they fail.
    """

    async def identity(self) -> VenueIdentity:
        """Return which venue it is, before it is started.

        Raises:
            InvalidSettingError: The settings do not fit the venue.
            VenueUnavailableError: The venue did not answer.
        """
        ...

    async def start(self) -> None:
        """Begin to follow the market and to execute.

        Raises:
            InvalidSettingError: The settings do not fit the venue.
            VenueUnavailableError: The venue did not answer.
        """
        ...

    async def stop(self) -> None:
        """Stop; it may not have been started."""
        ...

    @property
    def mode(self) -> TradingMode:
        """Whether its transactions move real money."""
        ...

    @property
    def kind(self) -> str:
        """Which kind of venue it is, such as ``paper``: its name in the API."""
        ...
