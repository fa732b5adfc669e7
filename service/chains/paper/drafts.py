"""What executing changes in the paper market: a draft, until it is possible; then changes to be kept."""

from dataclasses import dataclass, field

from service.amm import Direction, PoolState, SwapQuote
from service.amm.errors import AmountTooSmallError
from service.chains.paper.pool import PaperPool
from service.domain.failures import FailureCode


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of a transaction: base units that the wallet paid and got, or why it failed."""

    signature: str
    amount_in: int | None
    amount_out: int | None
    failure: FailureCode | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different since the last time it was asked.

    Attributes:
        pools: Those that changed, as they are now; neither opened nor closed ones.
        wallets: Balances that changed, in base units by owner and token.
        volumes: Base units of A and of B that anybody has swapped, in or out, by pool id.
        opened: Pools that were listed, as they were then.
        closed: Pools that were delisted, as they were then.
    """

    pools: list[PaperPool]
    wallets: dict[tuple[str, str], int]
    volumes: dict[str, tuple[int, int]]
    opened: list[PaperPool] = field(default_factory=list)
    closed: list[PaperPool] = field(default_factory=list)


class RefusedError(Exception):
    """A transaction fails, for a reason that is no pool's."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Draft:
    """What swaps would change, until all of them are known to be possible."""

    pools: dict[str, PaperPool] = field(default_factory=dict)
    gains: dict[str, int] = field(default_factory=dict)
    volumes: list[tuple[str, int, int]] = field(default_factory=list)

    def swap(self, pool: PaperPool, direction: Direction, quote: SwapQuote[PoolState]) -> None:
        """Note a swap, the trader's gain by token and the pool's volume.

        Raises:
            AmountTooSmallError: It would pay nothing.
        """
        amount_in, amount_out = quote.amount_in, quote.amount_out
        if amount_out < 1:
            raise AmountTooSmallError(f"{amount_in} in buys nothing")
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
