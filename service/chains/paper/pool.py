"""A pool of the paper market: its program's state and its token accounts."""

from dataclasses import dataclass, replace
from enum import StrEnum

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, Direction, DlmmPool, PoolState
from service.domain.quote import Dex


class Origin(StrEnum):
    """How a pool was created."""

    GENESIS = "genesis"
    LISTED = "listed"
    SCHEDULED = "scheduled"  # automatically, by PAPER_LISTING_EVERY_S


@dataclass(frozen=True, slots=True)
class PaperPool:
    """A pool of the paper market.

    Attributes:
        program: One of ``pool_json.PROGRAMS``.
        vault_a: Base units of token A in the pool's account, all fees included.
        vault_b: The same for token B.
        opened_slot: When it was listed.
        origin: How it was created; pools of the genesis cannot be delisted.
    """

    id: str
    dex: Dex
    program: str
    token_a: str
    token_b: str
    state: PoolState
    vault_a: int
    vault_b: int
    opened_slot: int
    origin: Origin = Origin.GENESIS

    @property
    def pair(self) -> tuple[str, str]:
        """Its tokens, A first."""
        return self.token_a, self.token_b

    def direction(self, token_in: str, token_out: str) -> Direction | None:
        """Return the direction of a swap of these tokens; None if they are not the pool's."""
        if (token_in, token_out) == (self.token_a, self.token_b):
            return Direction.A_TO_B
        if (token_in, token_out) == (self.token_b, self.token_a):
            return Direction.B_TO_A
        return None

    def after(self, state: PoolState, gain_a: int, gain_b: int) -> "PaperPool":
        """Return the pool with a new state and with the gains added to its vaults."""
        return replace(self, state=state, vault_a=self.vault_a + gain_a, vault_b=self.vault_b + gain_b)


def owed(state: PoolState) -> tuple[int, int]:
    """Return the amounts of A and B according to a pool's state, collected fees included.

    The states of DLMM and DAMM v2 do not include the liquidity providers' fees.

    Raises:
        TypeError: The state's program is unknown.
    """
    match state:
        case CpmmPool():
            return state.vault_0, state.vault_1
        case AmmV4Pool():
            return state.vault_coin, state.vault_pc
        case DammV2Pool():
            return state.amount_a + state.protocol_fee_a, state.amount_b + state.protocol_fee_b
        case DlmmPool():
            x, y = state.protocol_fee_x, state.protocol_fee_y
            for array in state.arrays.values():
                for bin_ in array.bins:
                    orders = bin_.open_orders + bin_.begun_orders
                    x += bin_.amount_x + (orders if bin_.orders_ask else 0)
                    y += bin_.amount_y + (0 if bin_.orders_ask else orders)
            return x, y
    raise TypeError(f"{type(state).__name__} is not the state of a known program")


def shortfall(pool: PaperPool) -> str | None:
    """Return a text if a pool's vaults hold less than its state requires; None if they do not."""
    owed_a, owed_b = owed(pool.state)
    if owed_a <= pool.vault_a and owed_b <= pool.vault_b:
        return None
    return (
        f"{pool.id} requires {owed_a} {pool.token_a} and {owed_b} {pool.token_b},"
        f" but its vaults hold {pool.vault_a} and {pool.vault_b}"
    )
