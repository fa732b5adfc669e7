"""The market data of a Solana venue, from pools that are read again and again.

A pool's state is always that of one read. Notifications of a WebSocket only say what to read; a poll finds
what they missed. State that is too old is not quoted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from service.amm import ChainTime
from service.background import Background
from service.chains.pool_index import PoolIndex
from service.chains.solana.feed.accounts import AccountsRead, ClockSysvar, read_hinted_accounts
from service.chains.solana.feed.pools import (
    FeedPool,
    ListedPool,
    OpenedPool,
    TokenOf,
    TradedMint,
    UnreadablePoolError,
    groups_of,
    program_name,
    view_of,
)
from service.chains.solana.feed.reader import Reader, Wanted
from service.chains.solana.feed.slots import MOST_AHEAD, SlotClock
from service.chains.solana.feed.volumes import Volumes
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.subscriptions import Listener, Notifications
from service.chains.venue import (
    MarketChange,
    OnMarketChange,
    PoolRef,
    PoolView,
    Snapshot,
    Traded,
    VenueUnavailableError,
)
from service.clock import Clock
from service.domain.tokens import Token

log = logging.getLogger(__name__)

# When a transaction that is built now is expected to land.
_LANDS_AFTER_S, _LANDS_AFTER_SLOTS = 1, 5

_UNREADABLE_AGAIN_S = 60.0
# A pool's accounts become known in steps: its own, those that it names, and those of a bitmap's extension.
_STEPS_TO_OPEN = 4


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How often to read.

    Attributes:
        poll_ms: Every pool is read this often, whatever notifications say.
        hint_gap_ms: Notifications cause at most one read in this time.
        max_snapshot_slots: State that is older is not quoted.
    """

    poll_ms: int = 1_000
    hint_gap_ms: int = 400
    max_snapshot_slots: int = 10


class SolanaFeed:
    """The pools of a list. Implements ``service.chains.venue.MarketData``.

    Args:
        endpoints: Where to read, started.
        programs: The cluster's AMM programs.
        listed: The pools.
        token_of: The tokens that may be traded, by mint.
        clock: Measures time.
        settings: How often to read.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        programs: AmmPrograms,
        listed: Iterable[ListedPool],
        token_of: TokenOf,
        clock: Clock,
        settings: FeedSettings | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._programs = programs
        self._clock = clock
        self._settings = settings or FeedSettings()
        self._pools = {
            pool.id: pool for pool in (FeedPool(each, programs, token_of, self._missed) for each in listed)
        }
        # By a vault of theirs, which changes with every swap; a pool's own account may not.
        self._by_vault: dict[str, FeedPool] = {}
        self._subscriptions: Notifications | None = None
        self._index = PoolIndex()
        self._mints: dict[str, TradedMint] = {}
        self._volumes = Volumes()
        self._now = ClockSysvar(0, 0, 0)
        self._callbacks: list[OnMarketChange] = []
        self._unreadable_until: dict[str, float] = {}
        self._gap = False
        self._changes = 0
        self._reader = Reader(self._read, clock, hint_gap_s=self._settings.hint_gap_ms / 1000)
        self._polls = Background("solana polls", self._poll_forever, clock)
        self.slots = SlotClock(clock)
        self.listener = Listener(self._on_account, self.slots.hint, self._reader.hint)
        """What a WebSocket's subscriptions call, if there is one."""

    async def start(self) -> None:
        """Read all pools, and keep reading them.

        Raises:
            VenueUnavailableError: They could not be read.
        """
        self._reader.start()
        for _ in range(_STEPS_TO_OPEN):
            await self._reader.look()
            if all(pool.ref or pool.id in self._unreadable_until for pool in self._pools.values()):
                break
        self._polls.start()

    async def stop(self) -> None:
        """Stop reading."""
        await self._polls.stop()
        await self._reader.stop()

    @property
    def slot_ms(self) -> int:
        """A slot's length, as measured."""
        return self.slots.slot_ms

    @property
    def now(self) -> ChainTime:
        """The moment that quotes are for: when a transaction that is built now is expected to land."""
        return ChainTime(self._now.timestamp_s + _LANDS_AFTER_S, self._now.slot + _LANDS_AFTER_SLOTS)

    @property
    def mints(self) -> Mapping[str, TradedMint]:
        """The tokens that some pool trades or has traded since the start, by their symbols."""
        return self._mints

    def opened(self, pool_id: str) -> OpenedPool | None:
        """Return a pool as it was last read; None if it cannot be quoted."""
        pool = self._pools.get(pool_id)
        if pool is None or pool.ref is None or pool.opened is None or pool.reading is None:
            return None
        return OpenedPool(pool.opened, pool.reading.state, pool.slot)

    def use(self, subscriptions: Notifications) -> None:
        """Have a WebSocket follow the pools; ``listener`` must be what it calls."""
        self._subscriptions = subscriptions
        subscriptions.follow(self._by_vault.keys())

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools of a pair, ordered by id."""
        return self._index.between(token_in, token_out)

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the state of pools: what is known, or, if that is too old, what a read finds."""
        return self._read_snapshots(pools) if self._too_old(pools) else self.local_snapshots(pools)

    async def _read_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        await self._reader.look([pool.id for pool in self._too_old(pools)])
        old = self._too_old(pools)
        if old:
            behind = max(self.slots.now() - pool.slot for pool in old)
            raise VenueUnavailableError(f"the state of {len(old)} pools is {behind} slots old")
        return self.local_snapshots(pools)

    def _too_old(self, pools: Sequence[PoolRef]) -> list[FeedPool]:
        oldest = self.slots.now() - self._settings.max_snapshot_slots
        known = (self._pools[pool.id] for pool in pools if pool.id in self._pools)
        return [pool for pool in known if pool.ref and pool.slot < oldest]

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        """Return the state of pools as last read, however old; those that cannot be quoted are left out."""
        now = self.now
        known = ((pool, self._pools.get(pool.id)) for pool in pools)
        return [
            Snapshot(ref, pool.reading.state, now)
            for ref, pool in known
            if pool and pool.ref and pool.reading
        ]

    async def refresh(self) -> bool:
        """Read all pools; return whether anything has changed since the call."""
        before = self._changes
        await self._reader.look(min_slot=self._endpoints.newest_slot)
        return self._changes != before

    def on_change(self, callback: OnMarketChange) -> None:
        """Register a callback for changes of the market."""
        self._callbacks.append(callback)

    async def traded_since(self, seconds: int) -> Sequence[Traded]:
        """Return the volumes of the last ``seconds``, as far as they are known here: a lower bound."""
        return self._volumes.since(self._now.timestamp_s - seconds)

    def all_views(self) -> tuple[int, Iterable[PoolView]]:
        """Return the slot, and an iterator over the views of all pools, ordered by id."""
        refs = [pool.ref for _, pool in sorted(self._pools.items()) if pool.ref]
        return self._now.slot, iter(self.views(refs))

    def views(self, pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        """Return pools as the API shows them; those that cannot be quoted are left out."""
        found = (self._pools.get(pool.id) for pool in pools)
        return [
            view_of(
                pool.ref,
                pool.reading,
                program_name(pool.opened.addresses.program, self._programs.ids),
                self._now,
                self.slot_ms,
            )
            for pool in found
            if pool and pool.ref and pool.reading and pool.opened
        ]

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that some pool trades."""
        return [mint.token for mint in self._mints.values() if self._index.trades(mint.token.symbol)]

    async def fetch_tokens(self, names: Collection[str]) -> None:
        """Do nothing: all tokens that may be traded are known."""

    async def _poll_forever(self) -> None:
        while True:
            await self._clock.sleep(self._settings.poll_ms / 1000)
            self._reader.hint()

    def _on_account(self, account: str, slot: int) -> None:
        pool = self._by_vault.get(account)
        if pool is not None and pool.slot < slot:
            plausible = slot <= self.slots.now() + MOST_AHEAD
            self._reader.hint([pool.id], slot if plausible else 0)

    def _missed(self, pool: FeedPool) -> None:
        """Read a pool again: a quote missed one of its accounts."""
        self._reader.hint([pool.id])

    async def _read(self, wanted: Wanted) -> None:
        """Read pools, in as few calls as hold them.

        Raises:
            VenueUnavailableError: A call was not answered; what the others answered is known.
            RpcError: A call was refused.
        """
        now = self._clock.monotonic()
        pools = [
            pool
            for pool in self._pools.values()
            if (wanted.everything or pool.id in wanted.min_slots)
            and self._unreadable_until.get(pool.id, 0.0) <= now
        ]
        results = await asyncio.gather(
            *(self._read_together(group, wanted) for group in groups_of(pools)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                self._gap = True
                raise result

    async def _read_together(self, pools: Sequence[FeedPool], wanted: Wanted) -> None:
        keys = {pool.id: pool.keys for pool in pools}
        everything = list(dict.fromkeys(key for each in keys.values() for key in each))
        if self._endpoints.newest_slot:
            # Who answers may lag behind what others have answered.
            self.slots.hint(self._endpoints.newest_slot)
        hinted = max(wanted.min_slots.get(pool.id, 0) for pool in pools)
        self._apply(await read_hinted_accounts(self._endpoints, everything, hinted, wanted.min_slot), keys)

    def _apply(self, read: AccountsRead, keys: Mapping[str, Sequence[Pubkey]]) -> None:
        """Take over what was read, and tell what has changed.

        Raises:
            VenueUnavailableError: The chain's time in it is not believed, nor the rest.
        """
        if not self.slots.observe(read.slot, read.clock.timestamp_s):
            raise VenueUnavailableError(f"the time of slot {read.slot} does not fit that of the slot before")
        if read.slot >= self._now.slot or read.slot < self._now.slot - MOST_AHEAD:
            self._now = read.clock
        changed: set[str] = set()
        traded: list[Traded] = []
        moved: list[PoolRef] = []
        for pool in (self._pools[pool_id] for pool_id in keys):
            ref, before = pool.ref, pool.reading
            try:
                has_changed = pool.accept(read, keys[pool.id])
            except UnreadablePoolError as error:
                self._drop(pool, str(error))
                if ref is not None:
                    changed.add(pool.id)
                    moved.append(ref)
                continue
            if not set(pool.keys) <= set(keys[pool.id]):
                self._reader.hint([pool.id])
            if not has_changed or pool.reading is None:
                continue
            changed.add(pool.id)
            if ref is None and pool.ref is not None:
                self._list(pool, pool.ref)
                moved.append(pool.ref)
            elif before is not None:
                vaults = (before.vault_a, before.vault_b), (pool.reading.vault_a, pool.reading.vault_b)
                volume = self._volumes.add(pool.id, read.clock.timestamp_s, *vaults)
                traded += [] if volume is None else [volume]
        self._tell(changed, traded, moved)

    def _tell(self, changed: set[str], traded: Sequence[Traded], moved: Sequence[PoolRef]) -> None:
        if not changed and not self._gap:
            return
        complete, self._gap = not self._gap, False
        self._changes += len(changed)
        change = MarketChange(frozenset(changed), tuple(traded), complete, tuple(moved))
        for callback in self._callbacks:
            callback(change)

    def _list(self, pool: FeedPool, ref: PoolRef) -> None:
        self._unreadable_until.pop(pool.id, None)
        self._index.add(ref)
        if pool.opened is not None:
            sides = pool.opened.addresses.token_a, pool.opened.addresses.token_b
            for token, side in zip(pool.tokens, sides, strict=True):
                self._mints[token.symbol] = TradedMint(token, side.mint, side.program)
            vault = str(pool.opened.addresses.token_a.vault)
            self._by_vault[vault] = pool
            if self._subscriptions is not None:
                self._subscriptions.follow([vault])

    def _drop(self, pool: FeedPool, reason: str) -> None:
        if pool.ref is not None:
            self._index.remove(pool.ref)
        pool.forget()
        self._unreadable_until[pool.id] = self._clock.monotonic() + _UNREADABLE_AGAIN_S
        log.warning("solana: pool %s is not quoted: %s", pool.id, reason)
