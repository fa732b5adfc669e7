"""The paper market in memory: pools, wallets, and the execution of transactions.

It has no time and no I/O: the slot is a parameter, and the caller takes the changes and stores them. The
market's own traders arbitrage every pool's price to its target, when the reference moves and after each
transaction, so an order's price impact is gone before the next one. Tokens are conserved: the total of
wallets and vaults never changes, token by token.

Fees stay in the vaults, as in the programs; they are never collected here.
"""

from bisect import insort
from collections.abc import Iterable, Mapping

from service.amm import AmmError, ChainTime, Direction, DlmmPool, PoolState
from service.amm.curve import input_to_price
from service.amm.errors import ArithmeticOverflowError, BinArrayMissingError
from service.amm.quote import Ratio
from service.chains.paper.drafts import Changes, Draft, Execution, RefusedError
from service.chains.paper.pool import PaperPool, shortfall
from service.chains.paper.reference import REFERENCE_STEP_SLOTS, Reference
from service.chains.paper.transaction import PaperTransaction, PathSwap
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.failures import FailureCode
from service.domain.quote import SwapMode
from service.settings import PPM, FailureRates, Range

__all__ = ["BAND_PPM", "TRADERS", "USER", "Changes", "Execution", "Market", "PaperPool"]

USER = "user"
TRADERS = "traders"
"""The owners of wallets: the user, whose orders are executed, and the market's own traders."""

BAND_PPM = 200
"""Traders ignore a price within this distance of its target; for a DLMM pool, within one bin."""

_PPM_PER_BASIS_POINT = 100


class Market:
    """Pools and wallets, and all operations on them.

    Args:
        seed: Determines the reference prices and the failures.
        pools: The listed pools.
        wallets: Balances in base units, by owner and token; missing ones are zero.
        clock: The source of the seeded numbers.
        slot_ms: A slot's length.
        variance_ppm: The spread between the two DEXs' prices.
        failure_rates: How many executions fail, for tests and demos.
    """

    def __init__(
        self,
        seed: int,
        pools: Iterable[PaperPool],
        wallets: Mapping[tuple[str, str], int],
        *,
        clock: Clock,
        slot_ms: int,
        variance_ppm: Range,
        failure_rates: FailureRates,
    ) -> None:
        self.reference = Reference(seed, variance_ppm, clock)
        self._seed = seed
        self._clock = clock
        self._slot_ms = slot_ms
        self._failure_rates = None if failure_rates == FailureRates() else failure_rates
        # Always ordered by id, since the order of trades may depend on it.
        self._pools = {pool.id: pool for pool in sorted(pools, key=_id)}
        # The pools with a target: few, even if many pools are listed.
        self._anchored = [pool.id for pool in self._pools.values() if self.reference.anchors(*pool.pair)]
        self._wallets = dict(wallets)
        self._moved_step: int | None = None
        self._opened: dict[str, PaperPool] = {}
        self._closed: dict[str, PaperPool] = {}
        self._off_target: list[str] = []
        self._dirty_pools: set[str] = set()
        self._dirty_wallets: set[tuple[str, str]] = set()
        self._volumes: dict[str, tuple[int, int]] = {}

    @property
    def pools(self) -> Mapping[str, PaperPool]:
        """Every pool in its current state, by id and ordered by id."""
        return self._pools

    @property
    def wallets(self) -> Mapping[tuple[str, str], int]:
        """Balances in base units, by owner and token."""
        return self._wallets

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens that some pool trades, in alphabetical order."""
        return tuple(
            sorted({token for pool in self._pools.values() for token in (pool.token_a, pool.token_b)})
        )

    def pools_of(self, token_in: str, token_out: str) -> tuple[PaperPool, ...]:
        """Return the pools that trade a pair directly, in either direction, ordered by id."""
        return tuple(pool for pool in self._pools.values() if pool.direction(token_in, token_out))

    def add_pool(self, pool: PaperPool) -> dict[str, int]:
        """List a pool.

        Returns:
            The amounts minted for its vaults, in base units by token, by which ``totals`` grows.

        Raises:
            ValueError: The pool exists, or its vaults hold less than its state requires.
        """
        if pool.id in self._pools:
            raise ValueError(f"pool {pool.id} already exists")
        if short := shortfall(pool):
            raise ValueError(short)
        self._pools = {each.id: each for each in sorted((*self._pools.values(), pool), key=_id)}
        self._opened[pool.id] = pool
        if self.reference.anchors(*pool.pair):
            insort(self._anchored, pool.id)
            self._off_target.append(pool.id)
        return {pool.token_a: pool.vault_a, pool.token_b: pool.vault_b}

    def has_closed(self, pool_id: str) -> bool:
        """Return whether a pool of this id was delisted since changes were last taken."""
        return pool_id in self._closed

    def remove_pool(self, pool_id: str) -> None:
        """Delist a pool, with its vaults.

        Raises:
            KeyError: There is no pool of this id.
        """
        pool = self._pools.pop(pool_id)
        self._dirty_pools.discard(pool_id)
        if self._opened.pop(pool_id, None) is None:
            self._closed[pool_id] = pool
        if self.reference.anchors(*pool.pair):
            self._anchored.remove(pool_id)
            self._off_target = [each for each in self._off_target if each != pool_id]

    def now(self, slot: int) -> ChainTime:
        """Return the chain's time in a slot."""
        return ChainTime(slot * self._slot_ms // 1000, slot)

    def move(self, slot: int) -> None:
        """Let the market's traders move every pool that is outside the band to its target.

        Between two moves of the reference prices, only pools listed since the last move are examined. If a
        pool's range ends, it is disabled, or the traders' wallet is empty, they go as far as they can.
        """
        step = slot // REFERENCE_STEP_SLOTS
        # Since the last move, every swap was followed by the traders' own.
        due = self._off_target if step == self._moved_step else self._anchored
        self._moved_step, self._off_target = step, []
        now = self.now(slot)
        for pool_id in due:
            self._arbitrage(self._pools[pool_id], slot, now)

    def execute(self, transaction: PaperTransaction, slot: int) -> Execution:
        """Execute a transaction in a slot: all of its legs, each within its own limits, or nothing.

        Legs execute in sequence, each on the state that the previous one left. As on a chain, each trades the
        amount that was signed for it, and none looks at what another one has paid. The amounts are the
        changes of the user's wallet. What a pool pays of an intermediate token beyond what the next one takes
        stays in that wallet: the residue. The caller must check that the transaction is still valid in this
        slot.

        A transaction without limits of its legs is from an earlier version: each leg trades what the previous
        one has paid, an exact-out path from its end, and only the transaction's own limits count.
        """
        draft = Draft()
        try:
            self._draw_failure(transaction.signature)
            now = self.now(slot)
            for path in transaction.paths:
                self._follow(path, transaction, now, draft)
            amount_in, amount_out = self._check(transaction, draft)
        except AmmError as refusal:
            return Execution(transaction.signature, None, None, _code_of(refusal))
        except RefusedError as refusal:
            return Execution(transaction.signature, None, None, refusal.code)
        self._apply(draft, USER)
        for pool_id in draft.pools:
            self._arbitrage(self._pools[pool_id], slot, now)
        residue = draft.residue(transaction.token_in, transaction.token_out)
        return Execution(transaction.signature, amount_in, amount_out, None, residue)

    def take_changes(self) -> Changes:
        """Return the changes since the last call."""
        changes = Changes(
            [self._pools[pool_id] for pool_id in sorted(self._dirty_pools)],
            {key: self._wallets[key] for key in sorted(self._dirty_wallets)},
            self._volumes,
            list(self._opened.values()),
            list(self._closed.values()),
        )
        self._opened, self._closed = {}, {}
        self._dirty_pools.clear()
        self._dirty_wallets.clear()
        self._volumes = {}
        return changes

    def totals(self) -> dict[str, int]:
        """Return the total of wallets and vaults, in base units by token; only a listing changes it."""
        totals: dict[str, int] = {}
        for (_, token), balance in self._wallets.items():
            totals[token] = totals.get(token, 0) + balance
        for pool in self._pools.values():
            totals[pool.token_a] = totals.get(pool.token_a, 0) + pool.vault_a
            totals[pool.token_b] = totals.get(pool.token_b, 0) + pool.vault_b
        return totals

    def shortfalls(self) -> list[str]:
        """Return a text for each pool whose vaults hold less than its state requires; always empty."""
        return [short for pool in self._pools.values() if (short := shortfall(pool))]

    def _draw_failure(self, signature: str) -> None:
        """Raise a failure at the configured rates, deterministically by the signature."""
        rates = self._failure_rates
        if rates is None:
            return
        luck = self._clock.seeded(f"luck:{self._seed}:{signature}").randrange(PPM)
        for rate_ppm, code in (
            (rates.transient_ppm, FailureCode.TRANSACTION_FAILED),
            (rates.slippage_ppm, FailureCode.SLIPPAGE_EXCEEDED),
            (rates.permanent_ppm, FailureCode.TRANSACTION_REJECTED),
        ):
            if luck < rate_ppm:
                raise RefusedError(code)
            luck -= rate_ppm

    def _follow(self, path: PathSwap, transaction: PaperTransaction, now: ChainTime, draft: Draft) -> None:
        """Swap along a path, in a draft."""
        token = transaction.token_in
        for _, sold, bought in path.legs:
            if sold != token:
                raise RefusedError(FailureCode.NO_ROUTE)
            token = bought
        if token != transaction.token_out:
            raise RefusedError(FailureCode.NO_ROUTE)
        exact_in = transaction.mode is SwapMode.EXACT_IN
        amount = path.amount
        limits = path.limits or (None,) * len(path.legs)
        legs = list(zip(path.legs, limits, strict=True))
        if not (exact_in or path.limits):
            legs.reverse()
        for (pool_id, sold, bought), limit in legs:
            pool = draft.pools.get(pool_id) or self._pools.get(pool_id)
            if pool is None:  # delisted since it was quoted
                raise RefusedError(FailureCode.POOL_DISABLED)
            direction = pool.direction(sold, bought)
            if direction is None:
                raise RefusedError(FailureCode.NO_ROUTE)
            if limit is not None:
                amount = limit.amount_in if exact_in else limit.amount_out
            ask = pool.state.quote_exact_in if exact_in else pool.state.quote_exact_out
            quote = ask(direction, amount, now)
            draft.swap(pool, direction, quote)
            if limit and (quote.amount_in > limit.amount_in or quote.amount_out < limit.amount_out):
                raise RefusedError(FailureCode.SLIPPAGE_EXCEEDED)
            amount = quote.amount_out if exact_in else quote.amount_in

    def _check(self, transaction: PaperTransaction, draft: Draft) -> tuple[int, int]:
        """Return a transaction's input and output, if they are within its limits and the wallet's balance."""
        if not draft.pools or transaction.token_in == transaction.token_out:
            raise RefusedError(FailureCode.NO_ROUTE)
        amount_in, amount_out = -draft.gains[transaction.token_in], draft.gains[transaction.token_out]
        if amount_in > transaction.maximum_in or amount_out < transaction.minimum_out:
            raise RefusedError(FailureCode.SLIPPAGE_EXCEEDED)
        self._check_wallet(draft, USER)
        return amount_in, amount_out

    def _check_wallet(self, draft: Draft, owner: str) -> None:
        for token, gain in draft.gains.items():
            balance = self._wallets.get((owner, token), 0) + gain
            if balance < 0:
                raise RefusedError(FailureCode.INSUFFICIENT_BALANCE)
            if balance > U64_MAX:
                raise ArithmeticOverflowError(f"{balance} does not fit u64")

    def _apply(self, draft: Draft, owner: str) -> None:
        """Apply a checked draft."""
        self._pools.update(draft.pools)
        self._dirty_pools.update(draft.pools)
        for token, gain in draft.gains.items():
            key = owner, token
            self._wallets[key] = self._wallets.get(key, 0) + gain
            self._dirty_wallets.add(key)
        for pool_id, volume_a, volume_b in draft.volumes:
            before_a, before_b = self._volumes.get(pool_id, (0, 0))
            self._volumes[pool_id] = before_a + volume_a, before_b + volume_b

    def _arbitrage(self, pool: PaperPool, slot: int, now: ChainTime) -> None:
        """Let the market's traders move a pool to its target, as far as possible."""
        target = self.reference.target(pool.dex, pool.token_a, pool.token_b, slot)
        if target is None:
            return
        draft = Draft()
        try:
            direction = _direction_to(target, pool.state)
            if direction is None:
                return
            if direction is Direction.A_TO_B:
                sold, limit = pool.token_a, target
            else:
                sold, limit = pool.token_b, Ratio(target.per, target.out)
            wanted = input_to_price(pool.state, direction, now, limit)
            amount = min(wanted, self._wallets.get((TRADERS, sold), 0))
            draft.swap(pool, direction, pool.state.quote_exact_in(direction, amount, now))
            self._check_wallet(draft, TRADERS)
        except (AmmError, RefusedError):
            return
        self._apply(draft, TRADERS)


def _id(pool: PaperPool) -> str:
    return pool.id


def _direction_to(target: Ratio, state: PoolState) -> Direction | None:
    """Return the direction of a swap that moves a price to its target; None if it is close enough.

    Args:
        target: Base units of B for one of A.
        state: The pool.

    Raises:
        AmmError: The pool has no price.
    """
    band_ppm = BAND_PPM
    if isinstance(state, DlmmPool):
        band_ppm = state.parameters.bin_step * _PPM_PER_BASIS_POINT
    out, per = state.price(Direction.A_TO_B)
    price, wanted = out * target.per, target.out * per
    if abs(price - wanted) * PPM <= wanted * band_ppm:
        return None
    return Direction.A_TO_B if price > wanted else Direction.B_TO_A


def _code_of(refusal: AmmError) -> FailureCode:
    """Return the failure code of a pool's error during execution."""
    if isinstance(refusal, ArithmeticOverflowError | BinArrayMissingError):
        # The amount exceeds what accounts can hold, or the loaded liquidity.
        return FailureCode.INSUFFICIENT_LIQUIDITY
    try:
        return FailureCode(refusal.code)
    except ValueError:
        return FailureCode.TRANSACTION_FAILED if refusal.transient else FailureCode.UNSUPPORTED_POOL
