"""Parses and validates the sniper conditions of a request: JSON in, ``SniperConditions`` out."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from service.domain.amounts import U64_MAX, InvalidAmountError
from service.domain.conditions import (
    LONGEST_VOLUME_S,
    USD_DECIMALS,
    Kind,
    LiquidityUnit,
    MinLiquidity,
    PoolCreated,
    PriceRange,
    SniperConditions,
    TimeWindow,
    Volume,
)
from service.domain.limit_price import PlainNumber, parse_number
from service.domain.quote import Dex
from service.domain.timestamps import InvalidTimestampError, parse_timestamp

_ANY_DEX = "any"

# With more decimals, one display unit would not fit in a token account.
_MAX_DECIMALS = 19

T = TypeVar("T")
Object = dict[str, object]

FieldPath = tuple[str | int, ...]
"""Where something is in JSON: the names of members and the indices of elements that lead to it."""


class ConditionError(ValueError):
    """The conditions are not valid.

    Attributes:
        path: Where, from the conditions on, such as ``("price", "above")``; empty for the whole.
        detail: The reason, for the client.
    """

    def __init__(self, path: FieldPath, detail: str) -> None:
        super().__init__(f"{'/'.join(map(str, path))}: {detail}" if path else detail)
        self.path = path
        self.detail = detail


def parse_conditions(data: object, now: datetime | None) -> SniperConditions:
    """Parse conditions as sent by a client.

    Args:
        data: The value of ``sniperConditions``, of any type.
        now: PostgreSQL's time, with a time zone; the time window must end after it. None for stored
            conditions, which were checked when they were placed and whose window may have ended since.

    Raises:
        ConditionError: Not valid; the first error found.
    """
    kinds = {kind.value for kind in Kind}
    given = _any_of(_object(data, (), kinds), (), kinds)

    def read(kind: Kind, reader: Callable[[object, FieldPath], T]) -> T | None:
        return reader(given[kind], (kind,)) if kind in given else None

    return SniperConditions(
        read(Kind.POOL_CREATED, _pool_created),
        read(Kind.MIN_LIQUIDITY, _min_liquidity),
        read(Kind.PRICE, _price),
        read(Kind.VOLUME, _volume),
        read(Kind.TIME_WINDOW, lambda window, at: _time_window(window, at, now)),
    )


def refuse_impossible(conditions: SniperConditions, decimals_in: int, decimals_out: int | None) -> None:
    """Reject conditions that can never hold: an order with them would rest forever.

    Args:
        conditions: The parsed conditions.
        decimals_in: Decimal places of tokenIn.
        decimals_out: Decimal places of tokenOut; None while it is not listed and may have any.

    Raises:
        ConditionError: An amount is more than a token account can hold, or no amount that fits one can
            trade at the price.
    """
    fewest, most = (0, _MAX_DECIMALS) if decimals_out is None else (decimals_out, decimals_out)
    liquidity, price, volume = conditions.min_liquidity, conditions.price, conditions.volume
    if liquidity is not None:
        decimals = USD_DECIMALS if liquidity.unit is LiquidityUnit.USD else fewest
        _refuse_over_u64(liquidity.amount, decimals, ("minLiquidity", "amount"))
    if volume is not None:
        _refuse_over_u64(volume.amount, fewest, ("volume", "amount"))
    if price is None:
        return
    # Even one base unit would pay more than an account can hold.
    if price.above is not None and not price.above.is_below(U64_MAX * 10**decimals_in, 10**fewest):
        raise ConditionError(("price", "above"), "No price can be above this.")
    # Even the largest amount would pay less than one base unit.
    if price.below is not None and not price.below.is_above(10**decimals_in, U64_MAX * 10**most):
        raise ConditionError(("price", "below"), "No price can be below this.")


def _refuse_over_u64(amount: PlainNumber, decimals: int, at: FieldPath) -> None:
    if amount.is_above(U64_MAX, 10**decimals):
        raise ConditionError(at, "The amount is more than a token account can hold.")


def _pool_created(data: object, at: FieldPath) -> PoolCreated:
    given = _object(data, at, {"venue"})
    dex = _choice(_required(given, "venue", at), (*at, "venue"), [*Dex, _ANY_DEX])
    return PoolCreated(None if dex == _ANY_DEX else Dex(dex))


def _min_liquidity(data: object, at: FieldPath) -> MinLiquidity:
    given = _object(data, at, {"amount", "unit"})
    amount = _number(_required(given, "amount", at), (*at, "amount"))
    unit = _choice(given.get("unit", LiquidityUnit.TOKEN_OUT), (*at, "unit"), list(LiquidityUnit))
    return MinLiquidity(amount, LiquidityUnit(unit))


def _price(data: object, at: FieldPath) -> PriceRange:
    names = {"above", "below"}
    given = _any_of(_object(data, at, names), at, names)
    above = _number(given["above"], (*at, "above")) if "above" in given else None
    below = _number(given["below"], (*at, "below")) if "below" in given else None
    if above and below and not above.is_below(below.digits, 10**below.scale):
        raise ConditionError((*at, "below"), "Must be more than above.")
    return PriceRange(above, below)


def _volume(data: object, at: FieldPath) -> Volume:
    given = _object(data, at, {"amount", "seconds"})
    amount = _number(_required(given, "amount", at), (*at, "amount"))
    seconds = _required(given, "seconds", at)
    # In Python, bool is a subclass of int.
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= LONGEST_VOLUME_S:
        raise ConditionError((*at, "seconds"), f"Must be a whole number from 1 to {LONGEST_VOLUME_S}.")
    return Volume(amount, seconds)


def _time_window(data: object, at: FieldPath, now: datetime | None) -> TimeWindow:
    names = {"notBefore", "notAfter"}
    given = _any_of(_object(data, at, names), at, names)
    not_before = _time(given["notBefore"], (*at, "notBefore")) if "notBefore" in given else None
    not_after = _time(given["notAfter"], (*at, "notAfter")) if "notAfter" in given else None
    if not_after is not None:
        if not_before is not None and not_after <= not_before:
            raise ConditionError((*at, "notAfter"), "Must be later than notBefore.")
        if now is not None and not_after <= now:
            raise ConditionError((*at, "notAfter"), "Must be in the future.")
    return TimeWindow(not_before, not_after)


def _object(data: object, at: FieldPath, known: set[str]) -> Object:
    """Return the members that are not null; null counts as omitted."""
    if not isinstance(data, dict):
        raise ConditionError(at, "Must be an object.")
    for name in data:
        if name not in known:
            raise ConditionError((*at, name), "Unknown field.")
    return {name: value for name, value in data.items() if value is not None}


def _any_of(given: Object, at: FieldPath, known: set[str]) -> Object:
    if not given:
        raise ConditionError(at, "Must have at least one of " + ", ".join(sorted(known)) + ".")
    return given


def _required(given: Object, name: str, at: FieldPath) -> object:
    if name not in given:
        raise ConditionError((*at, name), "Missing data for required field.")
    return given[name]


def _number(value: object, at: FieldPath) -> PlainNumber:
    try:
        return parse_number(_string(value, at))
    except InvalidAmountError as error:
        raise ConditionError(at, f"The amount {error}.") from None


def _time(value: object, at: FieldPath) -> datetime:
    text = _string(value, at)
    try:
        return parse_timestamp(text)
    except InvalidTimestampError as error:
        raise ConditionError(at, f"The time {error}.") from None


def _choice(value: object, at: FieldPath, known: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ConditionError(at, "Must be one of " + ", ".join(known) + ".")
    return value


def _string(value: object, at: FieldPath) -> str:
    if not isinstance(value, str):
        raise ConditionError(at, "Must be a string.")
    return value
