"""What a transaction is to do: the legs of a route with their pools, amounts and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from solders.pubkey import Pubkey

from service.amm import Direction
from service.chains.solana.programs.pool import LegSwap, OnChainPool, TokenSide
from service.domain.amounts import U64_MAX
from service.domain.leg_limits import LegLimits
from service.domain.quote import Route


class InvalidPlanError(Exception):
    """The legs do not form paths that can be executed within their limits."""


@dataclass(frozen=True, slots=True)
class PlannedLeg:
    """A swap in one pool."""

    pool: OnChainPool
    swap: LegSwap

    @property
    def sold(self) -> TokenSide:
        """The token that the leg pays into the pool."""
        return self.pool.addresses.sides(self.swap.direction)[0]

    @property
    def bought(self) -> TokenSide:
        """The token that the leg receives."""
        return self.pool.addresses.sides(self.swap.direction)[1]


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """Parallel paths of one or more legs, executed together or not at all."""

    paths: tuple[tuple[PlannedLeg, ...], ...]

    @property
    def legs(self) -> tuple[PlannedLeg, ...]:
        """Every leg, path by path."""
        return tuple(leg for path in self.paths for leg in path)

    def check(self) -> None:
        """Check that the plan can be executed, and that its result can be read from the pools' vaults.

        Raises:
            InvalidPlanError: It cannot.
        """
        legs = self.legs
        if not all(self.paths) or not legs:
            raise InvalidPlanError("a path without a leg")
        for leg in legs:
            if not (1 <= leg.swap.amount_in <= U64_MAX and 1 <= leg.swap.amount_out <= U64_MAX):
                raise InvalidPlanError(f"{leg.swap.amount_in} for {leg.swap.amount_out} in one leg")
        if len({leg.pool.addresses.pool for leg in legs}) != len(legs):
            raise InvalidPlanError("a pool is used twice")
        ends = {(path[0].sold.mint, path[-1].bought.mint) for path in self.paths}
        if len(ends) != 1:
            raise InvalidPlanError("the paths trade different pairs")
        for path in self.paths:
            _check_hops(path)


def _check_hops(path: tuple[PlannedLeg, ...]) -> None:
    """Check that each leg sells what the one before it surely bought, and not the wallet's own tokens."""
    for leg, following in pairwise(path):
        if leg.bought.mint != following.sold.mint:
            raise InvalidPlanError(f"a leg that buys {leg.bought.mint} before one that sells another token")
        if following.swap.amount_in > leg.swap.amount_out:
            raise InvalidPlanError(
                f"a leg may sell {following.swap.amount_in}, the one before it is sure to buy only "
                f"{leg.swap.amount_out}"
            )


def plan_of_route(
    route: Route,
    limits: tuple[tuple[LegLimits, ...], ...],
    pools: Mapping[str, OnChainPool],
    mints: Mapping[str, Pubkey],
    bin_arrays: Mapping[str, tuple[int, ...]],
) -> SwapPlan:
    """Return the plan of a route.

    Args:
        route: The route as quoted.
        limits: The limits of its legs, path by path, from ``leg_limits``.
        pools: The pools by id.
        mints: The mints of the tokens by symbol.
        bin_arrays: The bin arrays that a DLMM leg carries, by the pool's id.

    Raises:
        InvalidPlanError: The legs do not form paths that can be executed.
    """
    paths = []
    for path, path_limits in zip(route.paths, limits, strict=True):
        legs = []
        for leg, limit in zip(path.legs, path_limits, strict=True):
            pool = pools[leg.pool_id]
            direction = _direction(pool, mints[leg.token_in], mints[leg.token_out])
            arrays = bin_arrays.get(leg.pool_id, ())
            swap = LegSwap(direction, route.mode, limit.amount_in, limit.amount_out, arrays)
            legs.append(PlannedLeg(pool, swap))
        paths.append(tuple(legs))
    plan = SwapPlan(tuple(paths))
    plan.check()
    return plan


def _direction(pool: OnChainPool, mint_in: Pubkey, mint_out: Pubkey) -> Direction:
    for direction in Direction:
        sold, bought = pool.addresses.sides(direction)
        if (sold.mint, bought.mint) == (mint_in, mint_out):
            return direction
    raise InvalidPlanError(f"pool {pool.addresses.pool} does not trade {mint_in} for {mint_out}")
