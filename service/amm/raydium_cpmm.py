"""Raydium CPMM (CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C): constant product with four fees.

The trade fee is taken from the input; the protocol's and the fund's shares are parts of it. The creator's
fee is additional, from the input or the output depending on the pool. Reserves are the vaults' balances
less the fees not yet collected.

Source: raydium-io/raydium-cp-swap, programs/cp-swap/src: curve/calculator.rs,
curve/constant_product.rs, curve/fees.rs, states/pool.rs, instructions/swap_base_input.rs and
swap_base_output.rs.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from service.amm.errors import (
    AmountTooSmallError,
    InsufficientLiquidityError,
    PoolDisabledError,
    PoolNotOpenError,
    UnsupportedPoolError,
)
from service.amm.integers import check_amount, fit_u64
from service.amm.quote import ChainTime, Direction, Ratio, SwapQuote, price_impact_ppm

RATE_SCALE = 1_000_000
SWAP_DISABLED = 4

# Where the creator's fee is taken (states/pool.rs, CreatorFeeOn).
CREATOR_FEE_ON_INPUT = 0
CREATOR_FEE_ON_TOKEN_0 = 1
CREATOR_FEE_ON_TOKEN_1 = 2


class _Swap(NamedTuple):
    """One swap, in base units.

    Attributes:
        net_in: The input less the fees on it.
        gross_out: The output before the fee on it.
    """

    a_to_b: bool
    amount_in: int
    amount_out: int
    net_in: int
    gross_out: int
    trade_fee: int
    creator_fee: int
    creator_on_input: bool


@dataclass(frozen=True, slots=True)
class CpmmPool:
    """A CPMM pool with its config and the balances of its vaults.

    Attributes:
        vault_0: Base units in the vault of token 0, uncollected fees included.
        vault_1: The same for token 1.
        trade_fee_rate: Of the input, in parts per million.
        creator_fee_rate: Of the input or the output, in parts per million; charged if enabled.
        protocol_fee_rate: Of the trade fee, in parts per million.
        fund_fee_rate: Of the trade fee, in parts per million.
        creator_fee_on: 0 always the input, 1 always token 0, 2 always token 1.
        status: Bit 2 set: swaps are disabled.
        open_time_s: Unix time from which the pool swaps.
    """

    vault_0: int
    vault_1: int
    trade_fee_rate: int
    protocol_fee_rate: int = 0
    fund_fee_rate: int = 0
    creator_fee_rate: int = 0
    creator_fee_on: int = CREATOR_FEE_ON_INPUT
    enable_creator_fee: bool = False
    protocol_fees_0: int = 0
    protocol_fees_1: int = 0
    fund_fees_0: int = 0
    fund_fees_1: int = 0
    creator_fees_0: int = 0
    creator_fees_1: int = 0
    status: int = 0
    open_time_s: int = 0

    def price(self, direction: Direction) -> Ratio:
        """Return the output reserve per input reserve.

        Raises:
            InsufficientLiquidityError: A reserve is empty.
        """
        reserve_0 = self.vault_0 - self.protocol_fees_0 - self.fund_fees_0 - self.creator_fees_0
        reserve_1 = self.vault_1 - self.protocol_fees_1 - self.fund_fees_1 - self.creator_fees_1
        if reserve_0 <= 0 or reserve_1 <= 0:
            raise InsufficientLiquidityError("a reserve of the pool is empty")
        if direction is Direction.A_TO_B:
            return Ratio(reserve_1, reserve_0)
        return Ratio(reserve_0, reserve_1)

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[CpmmPool]":
        """Quote a swap of exactly this input.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        price = self.tradable_price(direction, now)
        trade_rate, creator_rate, on_input = self.rates(direction)
        creator_fee = 0
        if on_input:
            rate = trade_rate + creator_rate
            fee = -(-amount * rate // RATE_SCALE)
            creator_fee = fee * creator_rate // rate
        else:
            fee = -(-amount * trade_rate // RATE_SCALE)
        trade_fee = fee - creator_fee
        net_in = amount - fee
        gross_out = amount_out = net_in * price.out // (price.per + net_in)
        if not on_input:
            creator_fee = -(-gross_out * creator_rate // RATE_SCALE)
            amount_out -= creator_fee
        if amount_out < 1:
            raise AmountTooSmallError(f"input {amount} has no output")
        a_to_b = direction is Direction.A_TO_B
        return self._quote(
            price,
            _Swap(a_to_b, amount, amount_out, net_in, gross_out, trade_fee, creator_fee, on_input),
        )

    def quote_exact_out(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[CpmmPool]":
        """Quote a swap for exactly this output.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        price = self.tradable_price(direction, now)
        trade_rate, creator_rate, on_input = self.rates(direction)
        gross_out = amount if on_input else _gross_up(amount, creator_rate)
        if gross_out >= price.out:
            raise InsufficientLiquidityError(f"output {gross_out} exceeds the reserve of {price.out}")
        net_in = -(-price.per * gross_out // (price.out - gross_out))
        rate = trade_rate + creator_rate if on_input else trade_rate
        amount_in = fit_u64(_gross_up(net_in, rate))
        fee = amount_in - net_in
        creator_fee = fee * creator_rate // rate if on_input else gross_out - amount
        trade_fee = fee - creator_fee if on_input else fee
        a_to_b = direction is Direction.A_TO_B
        return self._quote(
            price,
            _Swap(a_to_b, amount_in, amount, net_in, gross_out, trade_fee, creator_fee, on_input),
        )

    def tradable_price(self, direction: Direction, now: ChainTime) -> Ratio:
        """Check that the pool swaps now, and return its price, which is the ratio of the reserves.

        Raises:
            PoolDisabledError: Swaps are disabled.
            PoolNotOpenError: The pool opens later.
            InsufficientLiquidityError: A reserve is empty.
        """
        if self.status & SWAP_DISABLED:
            raise PoolDisabledError(f"the pool's status is {self.status}")
        if now.timestamp_s < self.open_time_s:
            raise PoolNotOpenError(f"the pool opens at {self.open_time_s}")
        return self.price(direction)

    def rates(self, direction: Direction) -> tuple[int, int, bool]:
        """Return the trade rate, the creator's rate (ppm), and whether the latter is on the input.

        Raises:
            UnsupportedPoolError: The program rejects swaps at these rates.
        """
        on = self.creator_fee_on
        if on == CREATOR_FEE_ON_INPUT:
            on_input = True
        elif on in (CREATOR_FEE_ON_TOKEN_0, CREATOR_FEE_ON_TOKEN_1):
            on_input = (on == CREATOR_FEE_ON_TOKEN_0) is (direction is Direction.A_TO_B)
        else:
            raise UnsupportedPoolError(f"unknown creator fee mode {on}")
        creator_rate = self.creator_fee_rate if self.enable_creator_fee else 0
        total = self.trade_fee_rate + creator_rate
        # With the creator's fee on the input the program divides by the sum of the rates, so it rejects every
        # swap in a pool without fees.
        if (on_input and not total) or total >= RATE_SCALE:
            raise UnsupportedPoolError(f"the pool's fees sum to {total} parts per million")
        return self.trade_fee_rate, creator_rate, on_input

    def _quote(self, price: Ratio, swap: _Swap) -> "SwapQuote[CpmmPool]":
        fit_u64((self.vault_0 if swap.a_to_b else self.vault_1) + swap.amount_in)
        return SwapQuote(
            swap.amount_in,
            swap.amount_out,
            swap.amount_in - swap.net_in,
            swap.gross_out - swap.amount_out,
            price_impact_ppm(price, swap.net_in, swap.gross_out),
            partial(self._after, swap),
        )

    def _after(self, swap: _Swap) -> "CpmmPool":
        """Return the pool after a swap (instructions/swap_base_input.rs, update_fees)."""
        protocol_fee = swap.trade_fee * self.protocol_fee_rate // RATE_SCALE
        fund_fee = swap.trade_fee * self.fund_fee_rate // RATE_SCALE
        creator_in = swap.creator_fee if swap.creator_on_input else 0
        creator_out = swap.creator_fee - creator_in
        if swap.a_to_b:
            return replace(
                self,
                vault_0=self.vault_0 + swap.amount_in,
                vault_1=self.vault_1 - swap.amount_out,
                protocol_fees_0=self.protocol_fees_0 + protocol_fee,
                fund_fees_0=self.fund_fees_0 + fund_fee,
                creator_fees_0=self.creator_fees_0 + creator_in,
                creator_fees_1=self.creator_fees_1 + creator_out,
            )
        return replace(
            self,
            vault_1=self.vault_1 + swap.amount_in,
            vault_0=self.vault_0 - swap.amount_out,
            protocol_fees_1=self.protocol_fees_1 + protocol_fee,
            fund_fees_1=self.fund_fees_1 + fund_fee,
            creator_fees_1=self.creator_fees_1 + creator_in,
            creator_fees_0=self.creator_fees_0 + creator_out,
        )


def _gross_up(net: int, rate: int) -> int:
    """Return the smallest amount that leaves the net after a fee of this rate (curve/fees.rs)."""
    return -(-net * RATE_SCALE // (RATE_SCALE - rate))
