"""Bin arrays that notice when one of them is missing.

A quote that walks beyond the loaded arrays ends with ``BinArrayMissingError``, far from the feed. So the
arrays themselves tell the feed which one was asked for, and it is read with the pool from then on.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from service.amm import DlmmPool
from service.amm.meteora_dlmm_bins import BinArray


class NoticingArrays(Mapping[int, BinArray]):
    """The loaded arrays of a pool, by index.

    Args:
        loaded: The arrays.
        liquid: The indices of all arrays with liquidity, loaded or not.
        on_missing: Called with the index of one with liquidity that was asked for and is not loaded.
    """

    __slots__ = ("_liquid", "_loaded", "_on_missing")

    def __init__(
        self, loaded: Mapping[int, BinArray], liquid: tuple[int, ...], on_missing: Callable[[int], None]
    ) -> None:
        self._loaded = loaded
        self._liquid = liquid
        self._on_missing = on_missing

    def __getitem__(self, index: int) -> BinArray:
        try:
            return self._loaded[index]
        except KeyError:
            if index in self._liquid:
                self._on_missing(index)
            raise

    def __iter__(self) -> Iterator[int]:
        return iter(self._loaded)

    def __len__(self) -> int:
        return len(self._loaded)


def noticing(pool: DlmmPool, on_missing: Callable[[int], None]) -> DlmmPool:
    """Return a pool that tells which of its arrays with liquidity a quote missed."""
    return replace(pool, arrays=NoticingArrays(pool.arrays, pool.liquid_arrays, on_missing))
