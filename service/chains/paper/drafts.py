"""The changes of an execution: a draft until all of it is possible, then changes to be stored."""

from dataclasses import dataclass, field

from service.amm import Direction, PoolState, SwapQuote
from service.amm.errors import AmountTooSmallError
from service.chains.paper.pool import PaperPool
from service.domain.failures import FailureCode


@dataclass(frozen=True, slots=True)
class Execution:
    """A transaction's outcome: base units that the wallet paid and received, or why it failed.

    ``residue`` is what the wallet received besides, by token in alphabetical order: what the first legs of
    its paths paid beyond what the second ones took.
    """

    signature: str
    amount_in: int | None
    amount_out: int | None
    failure: FailureCode | None
    residue: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes since they were last taken.

    Attributes:
        pools: The changed pools in their current state, without opened and closed ones.
        wallets: Changed balances, in base units by owner and token.
        volumes: Base units of A and B traded in or out, by any trader, by pool id.
        opened: Listed pools, in their state when listed.
        closed: Delisted pools, in their state when delisted.
    """

    pools: list[PaperPool]
    wallets: dict[tuple[str, str], int]
    volumes: dict[str, tuple[int, int]]
    opened: list[PaperPool] = field(default_factory=list)
    closed: list[PaperPool] = field(default_factory=list)


class RefusedError(Exception):
    """A transaction fails for a reason other than a pool's error."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Draft:
    """The changes of swaps, until all of them are known to be possible."""

    pools: dict[str, PaperPool] = field(default_factory=dict)
    gains: dict[str, int] = field(default_factory=dict)
    volumes: list[tuple[str, int, int]] = field(default_factory=list)

    def residue(self, token_in: str, token_out: str) -> tuple[tuple[str, int], ...]:
        """Return the gains in tokens between these two."""
        between = self.gains.keys() - {token_in, token_out}
        return tuple((token, self.gains[token]) for token in sorted(between) if self.gains[token])

    def swap(self, pool: PaperPool, direction: Direction, quote: SwapQuote[PoolState]) -> None:
        """Add a swap: the pool's new state, the trader's gain by token, and the volume.

        Raises:
            AmountTooSmallError: The output would be zero.
        """
        amount_in, amount_out = quote.amount_in, quote.amount_out
        if amount_out < 1:
            raise AmountTooSmallError(f"input {amount_in} has no output")
        if direction is Direction.A_TO_B:
            sold, bought = pool.token_a, pool.token_b
            self.volumes.append((pool.id, amount_in, amount_out))
            self.pools[pool.id] = pool.after(quote.next_state(), amount_in, -amount_out)
        else:
            sold, bought = pool.token_b, pool.token_a
            self.volumes.append((pool.id, amount_out, amount_in))
            self.pools[pool.id] = pool.after(quote.next_state(), -amount_out, amount_in)
        self.gains[sold] = self.gains.get(sold, 0) - amount_in
        self.gains[bought] = self.gains.get(bought, 0) + amount_out
