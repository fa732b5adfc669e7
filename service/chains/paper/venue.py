"""The paper venue's interface to the engine: quotes after a delay, idempotent submission."""

import logging
from collections.abc import Awaitable, Collection, Iterable, Sequence

from service.amm import AmmError, ChainTime, Direction, PoolState, Ratio
from service.chains.paper.chain import Chain
from service.chains.paper.command_queue import CommandQueue
from service.chains.paper.genesis import genesis_pools, genesis_wallets
from service.chains.paper.leader import ChainSettings
from service.chains.paper.lease import PaperLease
from service.chains.paper.ledger import Ledger
from service.chains.paper.listing import Listings, NewPool
from service.chains.paper.market import USER
from service.chains.paper.pool import PaperPool
from service.chains.paper.records import Submission
from service.chains.paper.settings import PaperSettings
from service.chains.paper.transaction import Signer, decode, message_of
from service.chains.paper.wallet import PaperWallet
from service.chains.venue import (
    Balance,
    MarketChange,
    OnMarketChange,
    PoolRef,
    PoolView,
    Snapshot,
    Swap,
    SwapTooLateError,
    Traded,
    VenueIdentity,
    VenueRefusedError,
)
from service.clock import Clock
from service.domain.chain_times import SLOT_MS
from service.domain.failures import Failure, FailureCode
from service.domain.mode import TradingMode
from service.domain.tokens import Token
from service.domain.transaction import SignedTransaction, TransactionStatus
from service.postgres.batch import Batcher
from service.postgres.database import Database
from service.postgres.deployment import Deployment
from service.redis.link import RedisLink
from service.settings import InvalidSettingError

log = logging.getLogger(__name__)

# The interval of ledger queries for a transaction that another instance may be executing.
_POLL_EVERY_S = 1.0


class PaperVenue:
    """A simulated market in the engine's PostgreSQL. Implements ``service.chains.venue.Venue``."""

    kind = "paper"
    mode = TradingMode.PAPER
    outcomes_take_long = False

    def __init__(
        self,
        database: Database,
        clock: Clock,
        link: RedisLink,
        deployment: Deployment,
        settings: PaperSettings,
    ) -> None:
        self._clock = clock
        self._link = link
        self._deployment = deployment
        self._settings = settings
        self._lease = PaperLease(database, leader=clock.new_instance_id(), alone=settings.alone)
        self._ledger = Ledger(database, clock, slot_ms=settings.slot_ms or SLOT_MS)
        self._commands = CommandQueue(database)
        self._wallet = PaperWallet(
            self._ledger, clock, funded=settings.balances, group_limit=settings.group_limit
        )
        self._fetches = Batcher(
            self._fetch_group, clock=clock, name="paper tokens", key=id, largest=1_000, patient=False
        )
        self._submits = Batcher(
            self._submit_group,
            clock=clock,
            name="paper submit",
            key=lambda submission: submission.transaction.signature,
            largest=settings.group_limit,
        )
        self._seed: int | None = None
        self._chain: Chain | None = None
        self._signer: Signer | None = None
        self._callbacks: list[OnMarketChange] = []
        self._listings: Listings | None = None

    @property
    def slot_ms(self) -> int:
        """The length of a slot in milliseconds; after the start, that of the existing market."""
        return self._ledger.slot_ms

    async def identity(self) -> VenueIdentity:
        """Create the market if it does not exist, and return its identity.

        The seed decides the market's pools, its prices and the wallet's key.

        Raises:
            InvalidSettingError: The market's slots have another length.
            VenueUnavailableError: PostgreSQL is unavailable.
        """
        return VenueIdentity(self.kind, str(await self._create_or_open()), USER)

    async def start(self) -> None:
        """Create the market if it does not exist, and start its chain.

        Raises:
            InvalidSettingError: The market's slots have another length.
            VenueUnavailableError: PostgreSQL is unavailable.
        """
        settings = self._settings
        seed = await self._create_or_open()
        slot = self._ledger.slot_now()
        await self._ledger.open_pools(
            genesis_pools(seed, settings.price_variance_ppm, self._clock, slot, self.slot_ms)
        )
        chain = Chain(
            self._ledger,
            self._commands,
            self._lease,
            self._clock,
            self._link,
            deployment=self._deployment,
            settings=ChainSettings(
                seed=seed,
                slot_ms=self.slot_ms,
                variance_ppm=settings.price_variance_ppm,
                failure_rates=settings.failure_rates,
                funds=genesis_wallets(settings.balances),
                group_limit=settings.group_limit,
                longest_delay_ms=settings.execution_delay_ms.high,
            ),
            on_change=self._notify,
        )
        await chain.start()
        self._chain = chain
        self._listings = Listings(
            self._ledger, self._commands, chain, self._clock, every_s=settings.listing_every_s
        )
        self._listings.start()
        self._signer = Signer(seed, settings.hop_margin_bps)

    async def _create_or_open(self) -> int:
        """Create the market if it does not exist, and return its seed."""
        if self._seed is not None:
            return self._seed
        settings, wanted = self._settings, self._settings.seed
        seed, slot_ms = await self._ledger.create_market(
            self._clock.between(0, 10**9) if wanted is None else wanted
        )
        if settings.slot_ms not in {None, slot_ms}:
            # Pools and transactions store slot numbers, which are times only with a fixed slot length.
            raise InvalidSettingError(
                f"SLOT_MS is {settings.slot_ms}, but this database's paper market was created with slots of"
                f" {slot_ms} ms: set SLOT_MS={slot_ms}"
            )
        if wanted not in {None, seed}:
            log.warning("this database's paper market has seed %d: PAPER_SEED has no effect", seed)
        self._seed = seed
        return seed

    async def stop(self) -> None:
        """Stop the chain; another instance, or the next start, executes pending transactions."""
        await self._submits.stop()
        await self._fetches.stop()
        await self._wallet.stop()
        if self._listings is not None:
            await self._listings.stop()
        if self._chain is not None:
            await self._chain.stop()

    @property
    def chain(self) -> Chain:
        """This instance's view of the market's chain."""
        if self._chain is None:
            raise RuntimeError("the paper venue has not been started")
        return self._chain

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools that trade a pair, in a fixed order."""
        return self.chain.catalogue.refs(token_in, token_out)

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the pools' current state; with a quote delay, their state after it."""
        delay = self._settings.quote_delay_ms
        if delay.high == 0:
            return self.local_snapshots(pools)
        return self._snapshot_later(pools, self._clock.between(delay.low, delay.high) / 1000)

    async def refresh(self) -> bool:
        """Read the pools if the ledger has a newer commit."""
        return await self.chain.catalogue.refresh()

    def on_change(self, callback: OnMarketChange) -> None:
        """Register a callback for changes of the market."""
        self._callbacks.append(callback)

    def _notify(self, change: MarketChange) -> None:
        for callback in self._callbacks:
            callback(change)

    async def traded_since(self, seconds: int) -> Sequence[Traded]:
        """Return the volumes of the last ``seconds``, at most an hour."""
        return await self._ledger.traded_since(seconds)

    def all_views(self) -> tuple[int, Iterable[PoolView]]:
        """Return the slot, and an iterator over every pool as last committed, ordered by id."""
        pools = sorted(self.chain.catalogue.pools.values(), key=lambda each: each.id)
        return self._ledger.slot_now(), (self.view(pool) for pool in pools)

    def views(self, pools: Sequence[PoolRef]) -> list[PoolView]:
        """Return pools as the API shows them; removed pools are left out."""
        current = self.chain.catalogue.pools
        return [self.view(current[pool.id]) for pool in pools if pool.id in current]

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that some pool trades."""
        return self.chain.catalogue.tokens

    async def fetch_tokens(self, names: Collection[str]) -> None:
        """Fetch the tokens with these symbols or mints, and the pools of tokens that were unknown here."""
        await self._fetches.submit(names)

    async def _fetch_group(self, groups: list[Collection[str]]) -> list[None]:
        if await self.chain.catalogue.fetch_tokens({name for names in groups for name in names}):
            await self.chain.catalogue.refresh()
        return [None] * len(groups)

    async def list_pool(self, wanted: NewPool) -> PaperPool:
        """List a pool in the running market; see ``Listings.list_pool``."""
        return await self._running_listings.list_pool(wanted)

    async def delist_pool(self, pool_id: str) -> None:
        """Delist a pool in the running market; see ``Listings.delist_pool``."""
        await self._running_listings.delist_pool(pool_id)

    @property
    def _running_listings(self) -> Listings:
        if self._listings is None:
            raise RuntimeError("the paper venue has not been started")
        return self._listings

    def view(self, pool: PaperPool) -> PoolView:
        """Return a pool as the API shows it."""
        return PoolView(
            PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b),
            pool.program,
            pool.vault_a,
            pool.vault_b,
            _price(pool.state),
            pool.opened_slot * self.slot_ms / 1000,
        )

    def local_snapshots(self, pools: Sequence[PoolRef]) -> list[Snapshot]:
        """Return pools as last committed; removed pools are left out."""
        now = self._now()
        current = self.chain.catalogue.pools
        return [Snapshot(pool, current[pool.id].state, now) for pool in pools if pool.id in current]

    async def _snapshot_later(self, pools: Sequence[PoolRef], delay_s: float) -> list[Snapshot]:
        await self._clock.sleep(delay_s)
        return self.local_snapshots(pools)

    def _now(self) -> ChainTime:
        slot = self._ledger.slot_now()
        return ChainTime(slot * self.slot_ms // 1000, slot)

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign a swap that can land in the next slots, unless one of its pools was delisted meanwhile."""
        if self._signer is None:
            raise RuntimeError("the paper venue has not been started")
        for leg in (leg for path in swap.route.paths for leg in path.legs):
            if leg.pool_id not in self.chain.catalogue.pools:
                raise VenueRefusedError(
                    Failure(FailureCode.POOL_DISABLED, f"The pool {leg.pool_id} was delisted.")
                )
        slot = self._ledger.slot_now()
        last_valid_slot = slot + self._settings.valid_slots
        if swap.valid_until is not None:
            last_valid_slot = min(last_valid_slot, self._ledger.last_slot_by(swap.valid_until))
        if swap.submit_by is not None:
            landing_s = self._settings.execution_delay_ms.high / 1000
            last_valid_slot = min(last_valid_slot, self._ledger.slot_at(swap.submit_by + landing_s) + 1)
        if last_valid_slot < slot:
            raise SwapTooLateError
        return self._signer.sign(swap, last_valid_slot)

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction to the chain; an existing one stays unchanged."""
        delay = self._settings.execution_delay_ms
        delay_ms = self._clock.between(delay.low, delay.high)
        return await self._submits.submit(Submission(decode(transaction), message_of(transaction), delay_ms))

    async def refuse(self, transaction: SignedTransaction) -> TransactionStatus:
        """Record a transaction as rejected, unless the chain already has it."""
        return await self._ledger.refuse(decode(transaction))

    @property
    def address(self) -> None:
        """None: money that somebody sent to the key, which follows from a seed, would be lost."""
        return None

    def is_unlimited(self, token: str) -> bool:
        """Return whether the market gave the wallet more of a token than its pools can take."""
        return self._wallet.is_unlimited(token)

    async def balance(self, token: str) -> Balance:
        """Return what the user's wallet holds of a token, as last committed."""
        return await self._wallet.balance(token)

    async def balances(self, limit: int, after: str | None = None) -> Sequence[tuple[Token, Balance]]:
        """Return what the user's wallet holds, as last committed."""
        return await self._ledger.balances(USER, limit, after=after)

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Return a transaction's state on the chain."""
        return await self._read_status(transaction)

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait for a transaction's outcome, by the chain's messages and by polling the ledger."""
        deadline = self._clock.monotonic() + timeout_s
        while True:
            left_s = deadline - self._clock.monotonic()
            status = await self.chain.outcome(transaction.id, max(0, min(left_s, _POLL_EVERY_S)))
            if status is None:
                status = await self._read_status(transaction)
            if status.final or left_s <= _POLL_EVERY_S:
                return status

    async def _read_status(self, transaction: SignedTransaction) -> TransactionStatus:
        [status] = await self._ledger.statuses([decode(transaction)])
        return status

    async def _submit_group(self, submissions: list[Submission]) -> list[TransactionStatus | Exception]:
        statuses, arrivals = await self._ledger.submit(submissions)
        self.chain.execute(submissions, arrivals)
        return list(statuses)


def _price(state: PoolState) -> Ratio | None:
    try:
        return state.price(Direction.A_TO_B)
    except AmmError:
        return None
