"""The pools that an instance quotes from, as of one commit, by id and by pair, and their tokens."""

from collections.abc import Collection, Iterable, Sequence

from service.chains.paper.ledger import Ledger
from service.chains.paper.pool import PaperPool
from service.chains.paper.records import CommitId
from service.chains.paper.reference import PRICES
from service.chains.pool_index import PoolIndex
from service.chains.venue import MarketChange, OnMarketChange, PoolRef, Traded
from service.clock import Clock
from service.domain.tokens import TOKENS, Token, find_token, list_token
from service.postgres.batch import Batcher

# Messages and requests in flight may still name the tokens of a removed pool.
_TOKENS_KEPT = 1_000


class Catalogue:
    """Every pool as last committed.

    Args:
        ledger: For reading missed commits.
        clock: For batched reads.
        on_change: Called with every commit as soon as it can be quoted from here.
    """

    def __init__(self, ledger: Ledger, clock: Clock, on_change: OnMarketChange) -> None:
        self._ledger = ledger
        self._on_change = on_change
        self._refreshes = Batcher(
            self._refresh_group, clock=clock, name="paper refresh", key=id, largest=10_000, patient=False
        )
        self.commit_id = CommitId(0, 0)
        """The commit that ``pools`` belong to."""
        self.pools: dict[str, PaperPool] = {}
        """By id."""
        self._refs: dict[str, PoolRef] = {}
        self._index = PoolIndex()
        self._untraded: dict[str, None] = {}

    async def stop(self) -> None:
        """Wait until every requested refresh has ended, unless PostgreSQL is unavailable."""
        await self._refreshes.stop()

    @property
    def tokens(self) -> list[Token]:
        """The tokens that some pool trades, built-in ones first."""
        return [token for token in TOKENS.values() if self._index.trades(token.symbol)]

    def refs(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools of a pair, ordered by id."""
        return self._index.between(token_in, token_out)

    async def refresh(self) -> bool:
        """Read the pools if the ledger has a newer commit; return whether it had.

        Concurrent calls share one read.
        """
        return await self._refreshes.submit(object())

    async def _refresh_group(self, calls: list[object]) -> list[bool]:
        behind = self.commit_id < await self._ledger.commit_id()
        if behind:
            await self.read()
        return [behind] * len(calls)

    async def read(self) -> None:
        """Load the pools of the ledger's latest commit; only those that have changed are read."""
        commit_id, pools, ids = await self._ledger.pools(self.commit_id.sequence if self.pools else -1)
        await self.fetch_tokens({token for pool in pools for token in pool.pair})
        missed = commit_id.sequence != self.commit_id.sequence
        self.apply(commit_id, pools, removed=self.pools.keys() - ids, complete=not missed)

    async def fetch_tokens(self, names: Iterable[str]) -> bool:
        """Read the unknown tokens with these symbols or mints; return whether there were any."""
        tokens = await self._ledger.tokens([name for name in names if find_token(name) is None])
        for token in tokens:
            list_token(token)
        return bool(tokens)

    def apply(
        self,
        commit_id: CommitId,
        pools: Sequence[PaperPool],
        *,
        removed: Collection[str] = (),
        traded: Sequence[Traded] = (),
        complete: bool = True,
    ) -> None:
        """Apply a commit, unless a later one has been applied.

        Args:
            commit_id: The commit.
            pools: The changed and new pools; their tokens must be known.
            removed: Ids of removed pools.
            traded: The volume since the previous commit.
            complete: Whether no commit before it was missed.
        """
        if commit_id < self.commit_id:
            return
        self.commit_id = commit_id
        added_or_removed = [self._delist(pool_id) for pool_id in removed if pool_id in self.pools]
        for pool in pools:
            self.pools[pool.id] = pool
            if pool.id not in self._refs:
                added_or_removed.append(self._list(pool))
        changed = frozenset((*(pool.id for pool in pools), *removed))
        self._on_change(MarketChange(changed, tuple(traded), complete, tuple(added_or_removed)))

    def _list(self, pool: PaperPool) -> PoolRef:
        ref = self._refs[pool.id] = PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b)
        self._index.add(ref)
        return ref

    def _delist(self, pool_id: str) -> PoolRef:
        pool, ref = self.pools.pop(pool_id), self._refs.pop(pool_id)
        self._index.remove(ref)
        for token in pool.pair:
            if not self._index.trades(token):
                self._forget_token(token)
        return ref

    def _forget_token(self, token: str) -> None:
        """Mark a token that no pool trades for removal; it can be read again."""
        # Moved to the end, so that a token that is listed repeatedly is not the oldest.
        self._untraded.pop(token, None)
        self._untraded[token] = None
        if len(self._untraded) > _TOKENS_KEPT:
            oldest = next(iter(self._untraded))
            del self._untraded[oldest]
            if not self._index.trades(oldest) and oldest not in PRICES:
                TOKENS.pop(oldest, None)
