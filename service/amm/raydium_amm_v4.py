"""Raydium AMM v4 (675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8): constant product, one fee.

Reserves are the vaults' balances less the profit set aside for the pool's owner. The fee stays in the
vaults.

Source: raydium-io/raydium-amm, program/src: processor.rs (process_swap_base_in,
process_swap_base_out and their v2), math.rs (Calculator, CheckedCeilDiv), state.rs (AmmStatus,
AmmInfo).
"""

from dataclasses import dataclass, replace
from functools import partial

from service.amm.errors import (
    AmountTooSmallError,
    InsufficientLiquidityError,
    PoolDisabledError,
    PoolNotOpenError,
    UnsupportedPoolError,
)
from service.amm.integers import check_amount, fit_u64
from service.amm.quote import ChainTime, Direction, Ratio, SwapQuote, price_impact_ppm

INITIALIZED = 1
SWAP_ONLY = 6
WAITING_TRADE = 7


@dataclass(frozen=True, slots=True)
class AmmV4Pool:
    """An AMM v4 pool with the balances of its vaults. Token A is the coin, token B the pc.

    Attributes:
        vault_coin: Base units in the coin vault, including the profit to be taken.
        vault_pc: The same for the pc.
        need_take_pnl_coin: The profit to be taken, not part of the reserve.
        need_take_pnl_pc: The same for the pc.
        fee_numerator: Of the fee on the input; 25 of 10,000 on most pools.
        fee_denominator: Of the fee on the input.
        status: The program's AmmStatus: 6 swaps enabled, 7 swaps enabled from the opening time.
        open_time_s: Unix time from which a pool of status 7 swaps.
    """

    vault_coin: int
    vault_pc: int
    need_take_pnl_coin: int = 0
    need_take_pnl_pc: int = 0
    fee_numerator: int = 25
    fee_denominator: int = 10_000
    status: int = SWAP_ONLY
    open_time_s: int = 0

    def price(self, direction: Direction) -> Ratio:
        """Return the output reserve per input reserve.

        Raises:
            InsufficientLiquidityError: A reserve is empty.
        """
        coin = self.vault_coin - self.need_take_pnl_coin
        pc = self.vault_pc - self.need_take_pnl_pc
        if coin <= 0 or pc <= 0:
            raise InsufficientLiquidityError("a reserve of the pool is empty")
        return Ratio(pc, coin) if direction is Direction.A_TO_B else Ratio(coin, pc)

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[AmmV4Pool]":
        """Quote a swap of exactly this input.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        price = self.tradable_price(direction, now)
        fee = _ceil_div(amount * self.fee_numerator, self.fee_denominator)
        net_in = amount - fee
        amount_out = net_in * price.out // (price.per + net_in)
        if amount_out < 1:
            raise AmountTooSmallError(f"input {amount} has no output")
        return self._quote(direction, price, amount, amount_out, net_in)

    def quote_exact_out(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[AmmV4Pool]":
        """Quote a swap for exactly this output.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        price = self.tradable_price(direction, now)
        if amount >= price.out:
            raise InsufficientLiquidityError(f"output {amount} exceeds the reserve of {price.out}")
        net_in = _ceil_div(price.per * amount, price.out - amount)
        without_fee = self.fee_denominator - self.fee_numerator
        amount_in = fit_u64(_ceil_div(net_in * self.fee_denominator, without_fee))
        if amount_in < 1:
            raise AmountTooSmallError(f"output {amount} costs less than one unit, which the program rejects")
        return self._quote(direction, price, amount_in, amount, net_in)

    def tradable_price(self, direction: Direction, now: ChainTime) -> Ratio:
        """Check that the pool swaps now, and return its price, which is the ratio of the reserves.

        Raises:
            PoolNotOpenError: The pool opens later.
            PoolDisabledError: Swaps are disabled.
            UnsupportedPoolError: An order book may hold part of the reserves, or the fee is 100 %.
            InsufficientLiquidityError: A reserve is empty.
        """
        if self.status == WAITING_TRADE:
            if now.timestamp_s < self.open_time_s:
                raise PoolNotOpenError(f"the pool opens at {self.open_time_s}")
        elif self.status == INITIALIZED:
            # Part of the reserves may be in OpenBook orders, outside the vaults.
            raise UnsupportedPoolError("the pool may have funds on an order book")
        elif self.status != SWAP_ONLY:
            raise PoolDisabledError(f"the pool's status is {self.status}")
        if not self.fee_numerator < self.fee_denominator:
            raise UnsupportedPoolError(f"the fee is {self.fee_numerator} of {self.fee_denominator}")
        return self.price(direction)

    def _quote(
        self, direction: Direction, price: Ratio, amount_in: int, amount_out: int, net_in: int
    ) -> "SwapQuote[AmmV4Pool]":
        fit_u64((self.vault_coin if direction is Direction.A_TO_B else self.vault_pc) + amount_in)
        return SwapQuote(
            amount_in,
            amount_out,
            amount_in - net_in,
            0,
            price_impact_ppm(price, net_in, amount_out),
            partial(self._after, direction, amount_in, amount_out),
        )

    def _after(self, direction: Direction, amount_in: int, amount_out: int) -> "AmmV4Pool":
        """Return the pool after a swap. The first swap after the opening time changes the status to 6."""
        if direction is Direction.A_TO_B:
            coin, pc = self.vault_coin + amount_in, self.vault_pc - amount_out
        else:
            coin, pc = self.vault_coin - amount_out, self.vault_pc + amount_in
        return replace(self, vault_coin=coin, vault_pc=pc, status=SWAP_ONLY)


def _ceil_div(numerator: int, denominator: int) -> int:
    """Divide like math.rs: rounded up, except that a quotient below one half becomes zero."""
    if numerator < denominator:
        return 1 if 2 * numerator >= denominator else 0
    return -(-numerator // denominator)
