"""The accounts of Meteora's DLMM program (LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo).

Layouts: MeteoraAg/dlmm-sdk idls/dlmm.json (0.12.0): LbPair, BinArray, BinArrayBitmapExtension.
A bitmap marks the arrays with liquidity: the pair's for indices -512 to 511, the extension's beyond
(commons/src/extensions/bin_array_bitmap.rs).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from service.amm.account import (
    I32,
    I64,
    KEY,
    U8,
    U16,
    U32,
    U64,
    Account,
    anchor_discriminator,
    at,
    blob,
)
from service.amm.meteora_dlmm import DlmmPool
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY, EMPTY_BIN, Bin, BinArray
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility

NO_KEY = bytes(32)
PAIR_BITMAP_SIZE = 512
EXTENSION_BITMAPS = 12
BITMAP_BYTES = PAIR_BITMAP_SIZE // 8

# The fields of a bin that a swap reads: amounts at 0 and 8, open orders at 112, partially filled ones at 128,
# their side at 140. The rest (price, shares, fees owed) follows from the id or belongs to positions.
BIN = struct.Struct("<QQ96xQ8xQ4xB3x")


@dataclass(frozen=True, slots=True)
class LbPairAccount(Account):
    """LbPair: the pool without its bins."""

    SIZE = 904
    DISCRIMINATOR = anchor_discriminator("LbPair")

    base_factor: int = at(8, U16)
    filter_period: int = at(10, U16)
    decay_period: int = at(12, U16)
    reduction_factor: int = at(14, U16)
    variable_fee_control: int = at(16, U32)
    max_volatility_accumulator: int = at(20, U32)
    min_bin_id: int = at(24, I32)
    max_bin_id: int = at(28, I32)
    protocol_share: int = at(32, U16)
    base_fee_power: int = at(34, U8)
    function_type: int = at(35, U8)
    collect_fee_mode: int = at(36, U8)
    volatility_accumulator: int = at(40, U32)
    volatility_reference: int = at(44, U32)
    index_reference: int = at(48, I32)
    last_update: int = at(56, I64)
    pair_type: int = at(75, U8)
    active_id: int = at(76, I32)
    bin_step: int = at(80, U16)
    status: int = at(82, U8)
    activation_type: int = at(86, U8)
    mint_x: bytes = at(88, KEY)
    mint_y: bytes = at(120, KEY)
    reserve_x: bytes = at(152, KEY)
    reserve_y: bytes = at(184, KEY)
    protocol_fee_x: int = at(216, U64)
    protocol_fee_y: int = at(224, U64)
    reward_mint_0: bytes = at(264, KEY)
    reward_mint_1: bytes = at(408, KEY)
    oracle: bytes = at(552, KEY)
    bitmap: bytes = at(584, blob(2 * BITMAP_BYTES))
    activation_point: int = at(816, U64)
    token_program_flag_x: int = at(880, U8)
    token_program_flag_y: int = at(881, U8)

    @property
    def parameters(self) -> DlmmParameters:
        """The pool's constants."""
        return DlmmParameters(
            bin_step=self.bin_step,
            base_factor=self.base_factor,
            filter_period_s=self.filter_period,
            decay_period_s=self.decay_period,
            reduction_factor=self.reduction_factor,
            variable_fee_control=self.variable_fee_control,
            max_volatility=self.max_volatility_accumulator,
            protocol_share=self.protocol_share,
            base_fee_power=self.base_fee_power,
            function_type=self.function_type,
            collect_fee_mode=self.collect_fee_mode,
            has_rewards=(self.reward_mint_0, self.reward_mint_1) != (NO_KEY, NO_KEY),
        )

    def written(self, pool: DlmmPool) -> "LbPairAccount":
        """Return the account with the fields that swaps change taken from a pool."""
        return replace(
            self,
            active_id=pool.active_id,
            volatility_accumulator=pool.volatility.accumulator,
            volatility_reference=pool.volatility.reference,
            index_reference=pool.volatility.index_reference,
            last_update=pool.volatility.last_update_s,
            protocol_fee_x=pool.protocol_fee_x,
            protocol_fee_y=pool.protocol_fee_y,
        )


@dataclass(frozen=True, slots=True)
class BinArrayAccount(Account):
    """BinArray: seventy bins."""

    SIZE = 56 + BINS_PER_ARRAY * BIN.size
    DISCRIMINATOR = anchor_discriminator("BinArray")

    index: int = at(8, I64)
    version: int = at(16, U8)
    lb_pair: bytes = at(24, KEY)
    bins: bytes = at(56, blob(BINS_PER_ARRAY * BIN.size))

    @property
    def array(self) -> BinArray:
        """The bins' contents."""
        return BinArray(self.index, tuple(_bin(*values) for values in BIN.iter_unpack(self.bins)))

    def written(self, array: BinArray) -> "BinArrayAccount":
        """Return the account with the bins' amounts and orders taken from an array.

        The ages of orders, and the fees owed to them and to positions, are not updated.
        """
        bins = bytearray(self.bins)
        for offset, bin_ in enumerate(array.bins):
            start = offset * BIN.size
            struct.pack_into("<QQ", bins, start, bin_.amount_x, bin_.amount_y)
            struct.pack_into("<Q8xQ", bins, start + 112, bin_.open_orders, bin_.begun_orders)
            bins[start + 140] = bin_.orders_ask
        return replace(self, bins=bytes(bins))


@dataclass(frozen=True, slots=True)
class BitmapExtensionAccount(Account):
    """BinArrayBitmapExtension: which arrays beyond the pair's own bitmap have liquidity."""

    SIZE = 40 + 2 * EXTENSION_BITMAPS * BITMAP_BYTES
    DISCRIMINATOR = anchor_discriminator("BinArrayBitmapExtension")

    lb_pair: bytes = at(8, KEY)
    positive: bytes = at(40, blob(EXTENSION_BITMAPS * BITMAP_BYTES))
    negative: bytes = at(808, blob(EXTENSION_BITMAPS * BITMAP_BYTES))


def _bin(amount_x: int, amount_y: int, open_orders: int, begun_orders: int, ask: int) -> Bin:
    if not (amount_x or amount_y or open_orders or begun_orders):
        return EMPTY_BIN
    return Bin(amount_x, amount_y, open_orders, begun_orders, ask != 0)


def liquid_arrays(pair: LbPairAccount, extension: BitmapExtensionAccount | None = None) -> tuple[int, ...]:
    """Return the indices of the arrays with liquidity, ascending.

    Args:
        pair: The pool's account.
        extension: Its extension, or None. A pool that always fitted the pair's bitmap has none.
    """
    indices = [bit - PAIR_BITMAP_SIZE for bit in _bits(pair.bitmap)]
    if extension is not None:
        indices += [PAIR_BITMAP_SIZE + bit for bit in _bits(extension.positive)]
        indices += [-PAIR_BITMAP_SIZE - 1 - bit for bit in _bits(extension.negative)]
    return tuple(sorted(indices))


def _bits(bitmap: bytes) -> Iterator[int]:
    """Yield the positions of the set bits, ascending."""
    bits = int.from_bytes(bitmap, "little")
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def pool_of_accounts(
    pair: LbPairAccount,
    arrays: Iterable[BinArrayAccount],
    extension: BitmapExtensionAccount | None = None,
) -> DlmmPool:
    """Return a pool's state from its account and the loaded bin arrays."""
    return DlmmPool(
        parameters=pair.parameters,
        active_id=pair.active_id,
        arrays={account.index: account.array for account in arrays},
        liquid_arrays=liquid_arrays(pair, extension),
        volatility=Volatility(
            pair.volatility_accumulator,
            pair.volatility_reference,
            pair.index_reference,
            pair.last_update,
        ),
        protocol_fee_x=pair.protocol_fee_x,
        protocol_fee_y=pair.protocol_fee_y,
        status=pair.status,
        pair_type=pair.pair_type,
        activation_type=pair.activation_type,
        activation_point=pair.activation_point,
    )
