"""When a Meteora pool opens: at a Unix time, or at a slot.

Sources: MeteoraAg/dlmm-sdk commons/src/quote.rs (validate_swap_activation) and MeteoraAg/damm-v2
programs/cp-amm/src/activation_handler.rs.
"""

from service.amm.errors import PoolNotOpenError, StateIncompleteError, UnsupportedPoolError
from service.amm.quote import ChainTime

BY_SLOT = 0
BY_TIMESTAMP = 1


def current_point(activation_type: int, now: ChainTime) -> int:
    """Return the time in the pool's activation unit: a slot, or a Unix time in seconds.

    Raises:
        StateIncompleteError: The pool uses slots and ``now`` has none.
        UnsupportedPoolError: Unknown activation type.
    """
    if activation_type == BY_TIMESTAMP:
        return now.timestamp_s
    if activation_type != BY_SLOT:
        raise UnsupportedPoolError(f"unknown activation type {activation_type}")
    if now.slot is None:
        raise StateIncompleteError("the pool's activation is a slot, but no slot was given")
    return now.slot


def check_open(point: int, activation_point: int) -> None:
    """Check that the activation point is reached.

    Raises:
        PoolNotOpenError: It is not.
    """
    if point < activation_point:
        raise PoolNotOpenError(f"the pool opens at {activation_point}, now is {point}")
