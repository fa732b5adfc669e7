"""DLMM's bins: their contents, the sequence in which a swap visits them, and filling one.

All of a bin trades at one price, in this order: the liquidity providers' amounts, the rest of partially
filled limit orders, then the other limit orders.

Source: MeteoraAg/dlmm-sdk commons/src/quote.rs (get_exact_in_fill_amount_result,
get_excluded_fee_amount_in, shift_active_bin_if_empty_gap), extensions/bin.rs and bin_array.rs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from service.amm.errors import (
    ArithmeticOverflowError,
    BinArrayMissingError,
    MalformedStateError,
    SwapUndeterminedError,
)
from service.amm.integers import U64_MAX
from service.amm.meteora_dlmm_prices import amount_bought, amount_needed

BINS_PER_ARRAY = 70
BIN_ID_MAX = 443_636


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin's contents, in base units.

    Attributes:
        amount_x: The liquidity providers' X.
        amount_y: The liquidity providers' Y.
        open_orders: Limit orders without a fill, in X if they are asks, in Y if they are bids.
        begun_orders: The rest of partially filled limit orders.
        orders_ask: Whether the limit orders sell X.
    """

    amount_x: int = 0
    amount_y: int = 0
    open_orders: int = 0
    begun_orders: int = 0
    orders_ask: bool = False

    def orders_for(self, *, x_in: bool) -> tuple[int, int]:
        """Return the partially filled and the open orders that a swap in this direction fills."""
        if self.orders_ask is x_in:
            return 0, 0
        return self.begun_orders, self.open_orders

    def amount_for(self, *, x_in: bool, orders: bool) -> int:
        """Return the maximum output of a swap in this direction, at most 2^64 - 1."""
        amount = self.amount_y if x_in else self.amount_x
        if not orders or not (self.open_orders or self.begun_orders):
            return amount
        return min(amount + sum(self.orders_for(x_in=x_in)), U64_MAX)


EMPTY_BIN = Bin()


@dataclass(frozen=True, slots=True)
class BinArray:
    """Seventy consecutive bins, the unit of storage.

    Attributes:
        index: floor(bin id / 70).
        bins: All seventy, by offset.
    """

    index: int
    bins: tuple[Bin, ...]

    def __post_init__(self) -> None:
        if len(self.bins) != BINS_PER_ARRAY:
            raise MalformedStateError(f"a bin array has {BINS_PER_ARRAY} bins, got {len(self.bins)}")

    def with_bins(self, changed: Mapping[int, Bin]) -> "BinArray":
        """Return the array with the bins of these ids replaced."""
        bins = list(self.bins)
        for bin_id, bin_ in changed.items():
            bins[bin_id - self.index * BINS_PER_ARRAY] = bin_
        return replace(self, bins=tuple(bins))

    @property
    def is_empty(self) -> bool:
        """Whether all bins are empty."""
        return not any(
            bin_.amount_x or bin_.amount_y or bin_.open_orders or bin_.begun_orders
            for bin_ in self.bins
            if bin_ is not EMPTY_BIN
        )


def arrays_of(bins: Iterable[tuple[int, Bin]]) -> dict[int, BinArray]:
    """Group bins, by their ids, into arrays."""
    by_array: dict[int, dict[int, Bin]] = {}
    for bin_id, bin_ in bins:
        by_array.setdefault(bin_id // BINS_PER_ARRAY, {})[bin_id] = bin_
    empty = (EMPTY_BIN,) * BINS_PER_ARRAY
    return {index: BinArray(index, empty).with_bins(part) for index, part in by_array.items()}


def walk(
    arrays: Mapping[int, BinArray],
    liquid: tuple[int, ...],
    active_id: int,
    *,
    x_in: bool,
    orders: bool,
) -> Iterator[tuple[int, Bin]]:
    """Iterate over the bins that a swap can use: downwards if X goes in, upwards if Y does.

    Args:
        arrays: The loaded arrays, by index.
        liquid: The indices of all arrays with liquidity, ascending, loaded or not.
        active_id: The first bin.
        x_in: The direction.
        orders: Whether limit orders count.

    Yields:
        Each bin's id and contents.

    Raises:
        BinArrayMissingError: The walk reaches an array that is not loaded.
    """
    start = active_id // BINS_PER_ARRAY
    if x_in:
        ahead = reversed(liquid[: bisect_right(liquid, start)])
    else:
        ahead = iter(liquid[bisect_left(liquid, start) :])
    for index in ahead:
        array = arrays.get(index)
        if array is None:
            raise BinArrayMissingError(index)
        first_id = index * BINS_PER_ARRAY
        if x_in:
            offset = active_id - first_id if index == start else BINS_PER_ARRAY - 1
            offsets = range(offset, -1, -1)
        else:
            offset = active_id - first_id if index == start else 0
            offsets = range(offset, BINS_PER_ARRAY)
        bins = array.bins
        for offset in offsets:
            bin_ = bins[offset]
            if bin_ is EMPTY_BIN or not bin_.amount_for(x_in=x_in, orders=orders):
                continue
            bin_id = first_id + offset
            if not -BIN_ID_MAX <= bin_id <= BIN_ID_MAX:
                return
            yield bin_id, bin_


class Fill(NamedTuple):
    """The amounts of a swap in one bin, without fees, in base units.

    Attributes:
        total_in: The input used.
        pool_in: Its part for the liquidity providers; the rest goes to orders.
        pool_out: Paid by the liquidity providers.
        begun_out: Paid by partially filled orders.
        open_out: Paid by orders without an earlier fill.
    """

    total_in: int
    pool_in: int
    pool_out: int
    begun_out: int = 0
    open_out: int = 0

    @property
    def total_out(self) -> int:
        """The total output."""
        return self.pool_out + self.begun_out + self.open_out

    def applied_to(self, bin_: Bin, *, x_in: bool) -> Bin:
        """Return the bin after the fill.

        When a swap begins to fill open orders, all of them become partially filled ones. The input paid to
        orders is theirs to claim and does not trade again. No recorded swap shows a bin with orders
        afterwards: this is derived from how commons/src/extensions/limit_order.rs reads one.
        """
        begun, still_open = bin_.begun_orders - self.begun_out, bin_.open_orders
        if self.open_out:
            begun, still_open = still_open - self.open_out, 0
        gain, loss = self.pool_in, self.pool_out
        return replace(
            bin_,
            amount_x=bin_.amount_x + gain if x_in else bin_.amount_x - loss,
            amount_y=bin_.amount_y - loss if x_in else bin_.amount_y + gain,
            begun_orders=begun,
            open_orders=still_open,
        )


def fill(bin_: Bin, price: int, net_in: int, *, x_in: bool, orders: bool) -> Fill:
    """Fill a bin with as much of a net input as it can take.

    Raises:
        ArithmeticOverflowError: A value does not fit u64.
    """
    held = bin_.amount_y if x_in else bin_.amount_x
    used, pool_out = _fill_layer(held, price, net_in, x_in=x_in)
    if (bin_.amount_x if x_in else bin_.amount_y) + used > U64_MAX:
        raise ArithmeticOverflowError("the bin's amount does not fit u64")
    if used == net_in or not orders:
        return Fill(used, used, pool_out)
    begun, still_open = bin_.orders_for(x_in=x_in)
    begun_in, begun_out = _fill_layer(begun, price, net_in - used, x_in=x_in)
    left = net_in - used - begun_in
    open_in, open_out = _fill_layer(still_open, price, left, x_in=x_in) if left else (0, 0)
    return Fill(used + begun_in + open_in, used, pool_out, begun_out, open_out)


def _fill_layer(held: int, price: int, net_in: int, *, x_in: bool) -> tuple[int, int]:
    """Return the input and the output of one layer of a bin."""
    if not held:
        return 0, 0
    whole = amount_needed(held, price, x_in=x_in)
    if net_in >= whole:
        return whole, held
    return net_in, amount_bought(net_in, price, x_in=x_in)


def net_input_to_clear(bin_: Bin, price: int, *, x_in: bool, orders: bool) -> int:
    """Return the net input that clears a bin in a direction, rounded up per layer.

    Raises:
        ArithmeticOverflowError: A layer's cost does not fit u64.
    """
    held = bin_.amount_y if x_in else bin_.amount_x
    total = amount_needed(held, price, x_in=x_in)
    if orders and (bin_.open_orders or bin_.begun_orders):
        for layer in bin_.orders_for(x_in=x_in):
            total += amount_needed(layer, price, x_in=x_in)
    return total


def net_input_for(bin_: Bin, price: int, gross_out: int, *, x_in: bool) -> int:
    """Return the net input for an output that does not clear the bin.

    Each layer's cost is rounded up separately. The program also calculates the input as if the bin were one
    layer, and rejects the swap if the two differ (6085).

    Raises:
        ArithmeticOverflowError: A value does not fit u64.
        SwapUndeterminedError: The layers' costs do not add up to that of the whole.
    """
    left, total = gross_out, 0
    for held in (bin_.amount_y if x_in else bin_.amount_x, *bin_.orders_for(x_in=x_in)):
        part = min(left, held)
        total += amount_needed(part, price, x_in=x_in)
        left -= part
    if total > U64_MAX:
        raise ArithmeticOverflowError(f"{total} does not fit u64")
    if total != amount_needed(gross_out, price, x_in=x_in):
        raise SwapUndeterminedError(f"rounding gives two different costs for output {gross_out}")
    return total
