"""Why a swap is not quoted.

The exception tree. Each leaf has a stable code, which logs, metrics and clients use::

    AmmError
    |-- SwapRefusedError                the program would refuse this swap, or it cannot be quoted exactly
    |   |-- AmountTooSmallError         amount_too_small
    |   |-- ArithmeticOverflowError     arithmetic_overflow
    |   |-- InsufficientLiquidityError  insufficient_liquidity
    |   |-- PoolDisabledError           pool_disabled
    |   |-- PoolNotOpenError            pool_not_open
    |   |-- SwapUndeterminedError       swap_undetermined
    |   `-- UnsupportedPoolError        unsupported_pool
    |-- StateIncompleteError            state_incomplete: the quote needs more data
    |   `-- BinArrayMissingError        bin_array_missing
    `-- MalformedStateError             malformed_state: bytes or numbers that are not a valid pool

A router skips a pool on any ``SwapRefusedError``, fetches more on ``StateIncompleteError`` and drops the
snapshot on ``MalformedStateError``. A retry policy uses ``transient``.
"""

from typing import ClassVar


class AmmError(Exception):
    """Base class of this package's errors.

    Attributes:
        code: The error's stable name.
        transient: Whether the same request may succeed on a later state of the same pool.
    """

    code: ClassVar[str] = "amm_error"
    transient: ClassVar[bool] = False


class SwapRefusedError(AmmError):
    """The swap cannot be made on this state."""

    code = "swap_refused"


class AmountTooSmallError(SwapRefusedError):
    """The amount is zero, or its output rounds down to zero."""

    code = "amount_too_small"


class ArithmeticOverflowError(SwapRefusedError):
    """A value exceeded its width (u64, u128) during the calculation; the program fails in the same place."""

    code = "arithmetic_overflow"


class InsufficientLiquidityError(SwapRefusedError):
    """The pool, or its price range, cannot fill the whole amount. Partial fills are not quoted."""

    code = "insufficient_liquidity"
    transient = True


class PoolDisabledError(SwapRefusedError):
    """Swaps are disabled on this pool."""

    code = "pool_disabled"
    transient = True


class PoolNotOpenError(SwapRefusedError):
    """The pool's opening time or activation slot is in the future."""

    code = "pool_not_open"
    transient = True


class SwapUndeterminedError(SwapRefusedError):
    """The program's two calculations of the swap differ by rounding; another amount or state may succeed."""

    code = "swap_undetermined"
    transient = True


class UnsupportedPoolError(SwapRefusedError):
    """The pool is in a mode that is not reproduced exactly here, so it is not quoted."""

    code = "unsupported_pool"


class StateIncompleteError(AmmError):
    """The quote needs data that neither the snapshot nor the caller provided."""

    code = "state_incomplete"
    transient = True


class BinArrayMissingError(StateIncompleteError):
    """The walk reaches a bin array that holds liquidity but was not loaded.

    Attributes:
        index: The array's index; fetch that account and quote again.
    """

    code = "bin_array_missing"

    def __init__(self, index: int) -> None:
        super().__init__(f"bin array {index} holds liquidity but was not loaded")
        self.index = index


class MalformedStateError(AmmError):
    """The bytes are not the expected account, or a number does not fit its field."""

    code = "malformed_state"
