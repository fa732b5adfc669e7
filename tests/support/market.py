"""A paper market for tests, and random traders."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from random import Random
from typing import Any

from service.amm import AmmError, Direction, DlmmPool, SwapQuote
from service.chains.paper.genesis import genesis_pools, genesis_wallets
from service.chains.paper.market import BAND_PPM, Execution, Market
from service.chains.paper.pool import PaperPool, shortfall
from service.chains.paper.transaction import PaperTransaction, PathSwap
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.failures import FailureCode
from service.domain.leg_limits import LegLimits, bought_before, sold_after
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS
from service.settings import PPM, FailureRates, Range

SLOT = 4_500_000_000
"""A slot in the year 2027."""
SLOT_MS = 400
VARIANCE = Range(20_000, 50_000)

Leg = tuple[str, str, str]


@lru_cache
def founded(seed: int = 1, variance: Range = VARIANCE) -> tuple[PaperPool, ...]:
    """Return the pools of a seed at ``SLOT``; cached, since they are immutable."""
    return tuple(genesis_pools(seed, variance, Clock(seed=1), SLOT, SLOT_MS))


def a_market(
    seed: int = 1,
    *,
    pools: Iterable[PaperPool] | None = None,
    user: Mapping[str, int] | None = None,
    variance: Range = VARIANCE,
    rates: FailureRates | None = None,
) -> Market:
    """Return a new market at ``SLOT``, with its own pools or given ones."""
    return Market(
        seed,
        founded(seed, variance) if pools is None else pools,
        genesis_wallets(user),
        clock=Clock(seed=1),
        slot_ms=SLOT_MS,
        variance_ppm=variance,
        failure_rates=rates or FailureRates(),
    )


def a_transaction(
    *paths: tuple[int, Iterable[Leg]],
    mode: SwapMode = SwapMode.EXACT_IN,
    maximum_in: int = U64_MAX,
    minimum_out: int = 1,
    signature: str = "signature",
    limits: Sequence[tuple[LegLimits, ...] | None] | None = None,
) -> PaperTransaction:
    """Return a transaction of paths, each an amount and its legs; ``limits`` are those of the paths' legs."""
    swaps = tuple(
        PathSwap(amount, tuple(legs), of_legs)
        for (amount, legs), of_legs in zip(paths, limits or (None,) * len(paths), strict=True)
    )
    legs = swaps[0].legs
    return PaperTransaction(
        signature, "order", 1, mode, legs[0][1], legs[-1][2], swaps, maximum_in, minimum_out, U64_MAX
    )


def distance_ppm(market: Market, pool: PaperPool, slot: int) -> Fraction:
    """Return the signed distance of a pool's price from its target, in parts per million."""
    target = market.reference.target(pool.dex, pool.token_a, pool.token_b, slot)
    assert target is not None
    return (Fraction(*pool.state.price(Direction.A_TO_B)) / Fraction(*target) - 1) * PPM


def band_ppm(pool: PaperPool) -> int:
    """Return the allowed distance of a pool's price from its target."""
    if isinstance(pool.state, DlmmPool):
        return pool.state.parameters.bin_step * 100
    return BAND_PPM


@dataclass
class RandomTrader:
    """Trades at random, checks the market after every trade, and keeps its own books.

    The books follow ``take_changes`` only, so a change that is not reported becomes visible.
    """

    market: Market
    seed: int = 1
    slot: int = SLOT
    executions: list[Execution] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._draw = Random(self.seed)
        self._tokens = list(TOKENS)
        self._legs = {
            (sold, bought): [(pool.id, sold, bought) for pool in self.market.pools_of(sold, bought)]
            for sold in TOKENS
            for bought in TOKENS
        }
        self._totals = self.market.totals()
        self._pools = dict(self.market.pools)
        self._wallets = dict(self.market.wallets)

    def trade(self, times: int) -> None:
        """Advance time and trade, repeatedly."""
        for _ in range(times):
            self.slot += self._draw.choice((0, 0, 0, 1, 7, 100))
            self.market.move(self.slot)
            self._check()
            transaction = self._transaction()
            execution = self.market.execute(transaction, self.slot)
            self.executions.append(execution)
            changed = self._check()
            self._judge(transaction, execution, changed=changed)

    def check_books(self) -> None:
        """Check that all changes were reported, and that no vault is short."""
        assert self._pools == self.market.pools
        assert self._wallets == self.market.wallets
        assert self.market.shortfalls() == []

    def _transaction(self) -> PaperTransaction:
        draw = self._draw
        token_in, token_out = draw.sample(self._tokens, 2)
        candidates = [[leg] for leg in self._legs[token_in, token_out]]
        for between in self._tokens:
            firsts, seconds = self._legs[token_in, between], self._legs[between, token_out]
            if firsts and seconds:
                candidates.append([draw.choice(firsts), draw.choice(seconds)])
        paths = draw.sample(candidates, min(draw.choice((1, 1, 1, 2, 3)), len(candidates)))
        if draw.random() < 0.02:
            paths[-1] = [("raydium:gone", token_in, token_out)]
        mode = draw.choice(list(SwapMode))
        limits = draw.choice([(U64_MAX, 1)] * 8 + [(U64_MAX, U64_MAX), (1, 1)])
        swaps = [(draw.randint(1, 9) * 10 ** draw.randint(0, 16), legs) for legs in paths]
        # Every second one is signed as by an earlier version.
        signs_legs = len(self.executions) % 2
        return a_transaction(
            *swaps,
            mode=mode,
            maximum_in=limits[0],
            minimum_out=limits[1],
            signature=str(len(self.executions)),
            limits=[self._limits(mode, *swap) for swap in swaps] if signs_legs else None,
        )

    def _limits(self, mode: SwapMode, amount: int, legs: Sequence[Leg]) -> tuple[LegLimits, ...] | None:
        """Return a path's limits, with a margin of 1 % between two legs; None if a pool does not quote."""
        exact_in = mode is SwapMode.EXACT_IN
        if len(legs) == 1:
            return (LegLimits(amount, 1),) if exact_in else (LegLimits(U64_MAX, amount),)
        try:
            if exact_in:
                passed = sold_after(self._quoted(legs[0], mode, amount).amount_out, 100)
                return LegLimits(amount, passed), LegLimits(passed, 1)
            needed = bought_before(self._quoted(legs[1], mode, amount).amount_in, 100)
            return LegLimits(U64_MAX, needed), LegLimits(needed, amount)
        except AmmError:
            return None

    def _quoted(self, leg: Leg, mode: SwapMode, amount: int) -> SwapQuote[Any]:
        pool_id, sold, bought = leg
        pool = self.market.pools[pool_id]
        direction = pool.direction(sold, bought)
        assert direction is not None
        ask = pool.state.quote_exact_in if mode is SwapMode.EXACT_IN else pool.state.quote_exact_out
        return ask(direction, amount, self.market.now(self.slot))

    def _check(self) -> bool:
        """Check conservation, and that no vault is short; return whether anything changed."""
        assert self.market.totals() == self._totals
        changes = self.market.take_changes()
        assert {pool.id for pool in changes.pools} == changes.volumes.keys()
        for pool in changes.pools:
            assert shortfall(pool) is None
            assert 0 < pool.vault_a <= U64_MAX
            assert 0 < pool.vault_b <= U64_MAX
            self._pools[pool.id] = pool
        assert all(0 <= balance <= U64_MAX for balance in changes.wallets.values())
        self._wallets |= changes.wallets
        return bool(changes.pools or changes.wallets)

    def _judge(self, transaction: PaperTransaction, execution: Execution, *, changed: bool) -> None:
        assert execution.signature == transaction.signature
        if execution.failure is not None:
            assert not changed
            assert execution.amount_in is execution.amount_out is None
            self.outcomes[execution.failure] += 1
            return
        assert changed
        assert execution.amount_in is not None
        assert execution.amount_out is not None
        assert 0 < execution.amount_in <= transaction.maximum_in
        assert execution.amount_out >= transaction.minimum_out
        fixed = sum(path.amount for path in transaction.paths)
        exact_in = transaction.mode is SwapMode.EXACT_IN
        assert (execution.amount_in if exact_in else execution.amount_out) == fixed
        if execution.residue:
            assert all(amount > 0 for _, amount in execution.residue)
            self.outcomes["residue"] += 1
        self.outcomes[transaction.mode] += 1
        for path in transaction.paths:
            self.outcomes[f"{len(path.legs)} legs"] += 1
            for pool_id, _, _ in path.legs:
                self.outcomes[self.market.pools[pool_id].program] += 1


EVERY_OUTCOME = {
    *SwapMode,
    "1 legs",
    "2 legs",
    "residue",
    FailureCode.SLIPPAGE_EXCEEDED,
    FailureCode.POOL_DISABLED,
    FailureCode.AMOUNT_TOO_SMALL,
    FailureCode.INSUFFICIENT_LIQUIDITY,
    FailureCode.INSUFFICIENT_BALANCE,
}
"""The possible outcomes of a crowd's trades, besides the programs that they use."""
