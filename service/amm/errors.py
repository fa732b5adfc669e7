"""Why a swap is not quoted.

The tree, each leaf with a stable code (the code is what logs, metrics and clients see)::

    AmmError
    |-- SwapRefusedError                the program would refuse this swap, or we will not guess it
    |   |-- AmountTooSmallError         amount_too_small
    |   |-- ArithmeticOverflowError     arithmetic_overflow
    |   |-- InsufficientLiquidityError  insufficient_liquidity
    |   |-- PoolDisabledError           pool_disabled
    |   |-- PoolNotOpenError            pool_not_open
    |   |-- SwapUndeterminedError       swap_undetermined
    |   `-- UnsupportedPoolError        unsupported_pool
    |-- StateIncompleteError            state_incomplete: the pool may quote, given what is missing
    |   `-- BinArrayMissingError        bin_array_missing
    `-- MalformedStateError             malformed_state: bytes or numbers that are no pool

A router passes over a pool on any ``SwapRefusedError``, fetches more on ``StateIncompleteError``
and drops the snapshot on ``MalformedStateError``. A retry policy asks ``transient``: whether the
same request may succeed on a later state of the same pool.
"""

from typing import ClassVar


class AmmError(Exception):
    """Anything this package raises.

    Attributes:
        code: The stable name of the refusal.
        transient: Whether the same request may succeed on a later state of the same pool.
    """

    code: ClassVar[str] = "amm_error"
    transient: ClassVar[bool] = False


class SwapRefusedError(AmmError):
    """The swap cannot be made on this state."""

    code = "swap_refused"


class AmountTooSmallError(SwapRefusedError):
    """The amount is zero, or what it buys rounds down to zero."""

    code = "amount_too_small"


class ArithmeticOverflowError(SwapRefusedError):
    """A value left its width (u64, u128) on the way; the program fails at the same place."""

    code = "arithmetic_overflow"


class InsufficientLiquidityError(SwapRefusedError):
    """The pool, or its price range, cannot fill the whole amount. Partial fills are not quoted."""

    code = "insufficient_liquidity"
    transient = True


class PoolDisabledError(SwapRefusedError):
    """Swaps are switched off on this pool."""

    code = "pool_disabled"
    transient = True


class PoolNotOpenError(SwapRefusedError):
    """The pool's opening time or activation slot has not come."""

    code = "pool_not_open"
    transient = True


class SwapUndeterminedError(SwapRefusedError):
    """Two ways to work the swap out differ by a rounding; another amount or state may not."""

    code = "swap_undetermined"
    transient = True


class UnsupportedPoolError(SwapRefusedError):
    """The pool is in a mode that is not reproduced to the unit here, so it is not quoted."""

    code = "unsupported_pool"


class StateIncompleteError(AmmError):
    """The quote needs something that the snapshot or the caller did not bring."""

    code = "state_incomplete"
    transient = True


class BinArrayMissingError(StateIncompleteError):
    """The walk reaches a bin array that holds liquidity but was not loaded.

    Attributes:
        index: The array's index; fetch that account and quote again.
    """

    code = "bin_array_missing"

    def __init__(self, index: int) -> None:
        super().__init__(f"bin array {index} holds liquidity but is not part of the state")
        self.index = index


class MalformedStateError(AmmError):
    """The bytes are not the account they are taken for, or a number does not fit its field."""

    code = "malformed_state"
