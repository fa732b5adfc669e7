"""The Solana venue: pools of a cluster, and one wallet that trades in them."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Sequence

from service.chains.holding import Holding
from service.chains.solana.feed.feed import SolanaFeed
from service.chains.solana.feed.pools import ListedPool, TokenOf
from service.chains.solana.options import SolanaOptions
from service.chains.solana.outcomes import status_of
from service.chains.solana.payment import payment_of
from service.chains.solana.preparing import Preparer
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.proof import Validity
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.subscriptions import Notifications
from service.chains.solana.rpc.urls import RpcUrl
from service.chains.solana.sending.flight import SentTransaction, TrackedStatus
from service.chains.solana.sending.signer import WalletSigner
from service.chains.solana.sending.tracker import Tracker
from service.chains.solana.wallet import SolanaWallet
from service.chains.venue import (
    Balance,
    OnMarketChange,
    PoolRef,
    PoolView,
    Snapshot,
    Swap,
    Traded,
    VenueIdentity,
    VenueUnavailableError,
)
from service.clock import Clock
from service.domain.mode import TradingMode
from service.domain.tokens import Token
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.settings import InvalidSettingError


class SolanaVenue:
    """A Solana cluster. Implements ``service.chains.venue.Venue``.

    Args:
        endpoints: Where to read and send; the venue starts and stops them.
        programs: The cluster's AMM programs.
        listed: The pools to trade in.
        token_of: The tokens that may be traded, by mint.
        signer: The wallet.
        clock: Measures time.
        options: How to trade.
        websocket: What tells of changes; None: pools are only polled.
    """

    kind = "solana"
    outcomes_take_long = True

    def __init__(
        self,
        endpoints: Endpoints,
        programs: AmmPrograms,
        listed: Iterable[ListedPool],
        token_of: TokenOf,
        signer: WalletSigner,
        clock: Clock,
        options: SolanaOptions,
        websocket: RpcUrl | None = None,
    ) -> None:
        self.mode = options.mode
        self._endpoints = endpoints
        self._programs = programs
        self._token_of = token_of
        self._options = options
        self._signer = signer
        self._opened = False
        self.feed = SolanaFeed(endpoints, programs, listed, token_of, clock, options.feed)
        self.tracker = Tracker(endpoints, programs, clock, lambda: self.feed.slot_ms / 1000)
        self._wallet = SolanaWallet(
            signer.public_key,
            endpoints,
            self.feed,
            self.tracker,
            programs,
            clock,
            sol_reserve=options.sol_reserve,
        )
        self._preparer = Preparer(endpoints, programs.ids, self.feed, self._wallet, signer, clock, options)
        self._notifications: Notifications | None = None
        if websocket is not None:
            self._notifications = Notifications(
                endpoints.wire, websocket.url, websocket.name, clock, self.feed.listener, rps=websocket.rps
            )
            self.feed.use(self._notifications)

    async def identity(self) -> VenueIdentity:
        """Return the cluster's genesis hash and the wallet's public key.

        Raises:
            InvalidSettingError: An endpoint belongs to another cluster.
            VenueUnavailableError: No endpoint answered.
        """
        await self._open()
        found: str | None = self._options.genesis_hash
        answered = False
        # One that is only sent to, and has not said it so far, is asked before anything is sent to it. Which
        # cluster it is, if any will do, the first endpoint to read from decides.
        endpoints = [*self._endpoints.readers]
        endpoints += (each for each in self._endpoints.senders if each.compared and not each.reads)
        said = await asyncio.gather(*(each.genesis_hash() for each in endpoints))
        for endpoint, genesis in zip(endpoints, said, strict=True):
            if genesis is None:
                continue
            answered, found = answered or endpoint.reads, found or genesis
            if genesis != found:
                raise InvalidSettingError(
                    f"the endpoint {endpoint.name} is of the cluster with the genesis hash {genesis}, "
                    f"not {found}"
                )
        if found is None or not answered:
            raise VenueUnavailableError("no endpoint says which cluster it belongs to")
        # What was placed to be simulated must not go on to be signed for.
        kind = f"{self.kind}-{self.mode}" if self.mode is TradingMode.SIMULATE else self.kind
        return VenueIdentity(kind, found, self.address)

    async def start(self) -> None:
        """Read all pools, and begin to follow the market and what is in flight.

        Raises:
            VenueUnavailableError: The pools could not be read.
        """
        await self._open()
        await self.feed.start()
        if self._notifications is not None:
            self._notifications.start()
        self._preparer.blockhashes.start()
        await self.tracker.start()

    async def stop(self) -> None:
        """Stop; what is in flight is found again by its stored bytes."""
        await self.tracker.stop()
        await self._preparer.blockhashes.stop()
        if self._notifications is not None:
            await self._notifications.stop()
        await self.feed.stop()
        await self._signer.close()
        await self._endpoints.stop()

    async def _open(self) -> None:
        if not self._opened:
            self._opened = True
            await self._endpoints.start()

    # --- Market data

    @property
    def slot_ms(self) -> int:
        """The length of a slot in milliseconds, as measured."""
        return self.feed.slot_ms

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools that trade a pair directly, ordered by id."""
        return self.feed.pools(token_in, token_out)

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the state of pools: what is known, or, if that is too old, what a read finds."""
        return self.feed.snapshot(pools)

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        """Return the state of pools as last read."""
        return self.feed.local_snapshots(pools)

    async def refresh(self) -> bool:
        """Read all pools; return whether anything has changed."""
        return await self.feed.refresh()

    def on_change(self, callback: OnMarketChange) -> None:
        """Register a callback for changes of the market."""
        self.feed.on_change(callback)

    async def traded_since(self, seconds: int) -> Sequence[Traded]:
        """Return the volumes of the last ``seconds``, as far as they are known here: a lower bound."""
        return await self.feed.traded_since(seconds)

    def all_views(self) -> tuple[int, Iterable[PoolView]]:
        """Return the slot, and an iterator over the views of all pools, ordered by id."""
        return self.feed.all_views()

    def views(self, pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        """Return pools as the API shows them."""
        return self.feed.views(pools)

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that some pool trades."""
        return self.feed.tokens()

    async def fetch_tokens(self, names: Collection[str]) -> None:
        """Do nothing: all tokens that may be traded are known."""
        await self.feed.fetch_tokens(names)

    # --- Execution

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign the transaction of a swap, after a simulation; see ``Preparer``."""
        return await self._preparer.prepare(swap)

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction, and again until it is seen; UNKNOWN until it is in a block."""
        return self._status(transaction, await self.tracker.send(_sent(transaction)))

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Return a transaction's state on the chain, and follow it from now on.

        Raises:
            VenueUnavailableError: No node answered.
        """
        return self._status(transaction, await self.tracker.ask(_sent(transaction)))

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait until a transaction's end is certain or the time-out is over, and return its state.

        Raises:
            VenueUnavailableError: No node answered.
        """
        sent = _sent(transaction)
        await self.tracker.end(sent, timeout_s)
        return self._status(transaction, await self.tracker.ask(sent))

    def _status(self, transaction: SignedTransaction, tracked: TrackedStatus) -> TransactionStatus:
        failed = tracked.state is TransactionState.FAILED
        sells_sol = failed and payment_of(transaction.raw, self._programs).source is None
        return status_of(tracked, self._token_of, self._programs.ids, sells_sol=sells_sol)

    # --- Wallet

    @property
    def address(self) -> str:
        """The wallet's public key."""
        return str(self._signer.public_key)

    def is_unlimited(self, token: str) -> bool:  # noqa: ARG002 - of any token
        """Return False: it can pay what it holds."""
        return False

    async def balance(self, token: str) -> Balance:
        """Return what the wallet holds of a token; see ``SolanaWallet``."""
        return await self._wallet.balance(token)

    async def balances(self, limit: int, after: str | None = None) -> Sequence[tuple[Token, Balance]]:
        """Return what the wallet holds, by token; see ``SolanaWallet``."""
        return await self._wallet.balances(limit, after)

    async def holdings(self) -> Sequence[Holding]:
        """Return what the wallet held in the last finalized block; see ``SolanaWallet``."""
        return await self._wallet.holdings()


def _sent(transaction: SignedTransaction) -> SentTransaction:
    if transaction.blockhash_slot is None:
        raise ValueError(f"transaction {transaction.id} names no blockhash: it is another venue's")
    validity = Validity(transaction.last_valid_height, transaction.blockhash_slot)
    return SentTransaction(transaction.id, transaction.raw, validity)
