"""The resting limit orders of one process, indexed so that a change of the market tests few of them.

Orders of a pair whose amounts differ by less than an eighth share a bucket, sorted by price. A route's output
per unit falls as the amount grows. So the bound on the output for a bucket's smallest amount selects a
contiguous range of candidate orders; the bound for an order's own amount tells whether it is worth an exact
quote. These are upper bounds (``ceiling``) and cost microseconds, so nothing is assumed about how the market
has moved: an order whose limit the market reaches is always found. Only the exact quote decides.

A few limits lie between the bound and the quote, because of rounding and because a route is split only for a
gain. Such an order is quoted again when the bound has risen in proportion to the shortfall of its quote; in
addition, a few of them are quoted in turn with every change.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from service.domain.amounts import U64_MAX
from service.domain.limit_price import KEY_BITS, price_key

Pair = tuple[str, str]
"""tokenIn and tokenOut."""

ROTATION = 4
"""How many orders whose quote fell short are quoted again with every change, whatever the bound."""

# An order is tested in about a microsecond.
_TESTS_BETWEEN_PAUSES = 256

# The number of leading bits of an amount that determine its bucket.
_BUCKET_BITS = 4

# The low bits of a rank, below the price's key: a unique arrival number.
_ARRIVAL_BITS = 48


class PairPrices(Protocol):
    """A pair's market at one moment, see ``prices.MarketPrices``. All amounts are in base units."""

    def bound(self, amount: int) -> int:
        """Return an upper bound on an amount's output; it becomes tighter with repeated calls."""
        ...

    def least_bound(self, amount: int) -> int:
        """Return the tightest upper bound on an amount's output."""
        ...

    def reaches(self, amount: int, out: int) -> bool:
        """Return whether an amount's output may reach ``out``; False is certain."""
        ...

    def pays(self, amount: int, enough: int) -> int | None:
        """Return the exact output of the best quote, or of one that pays ``enough``; None without a quote."""
        ...


@dataclass(frozen=True, slots=True)
class RestingLimit:
    """A resting limit order: the fields of a ``RestingOrder`` that the book needs, as it holds very many.

    Attributes:
        amount_in: Base units of ``token_in``, positive.
        limit_out: The minimum output, in base units of ``token_out``, see ``limits.limit_out``.
        version: The order's current version: fences its firing.
        not_before: The earliest time to fire, in seconds since the Unix epoch by PostgreSQL's clock; 0 if
            it may fire at once.
    """

    order_id: str
    token_in: str
    token_out: str
    amount_in: int
    limit_out: int
    version: int
    not_before: float = 0


@dataclass(frozen=True, slots=True)
class FiredLimit:
    """An order removed from the book, and the exact quote for its whole amount, in base units."""

    order: RestingLimit
    amount_out: int


class _Place:
    """An order's entry in the book.

    ``rank`` is its sort key in its bucket: its price's key, then its arrival number; -1 while it waits for
    ``not_before``, and after its removal. ``needed`` is the bound at which it is quoted (again).
    """

    __slots__ = ("needed", "order", "quoted", "rank")

    def __init__(self, order: RestingLimit) -> None:
        self.order = order
        self.rank = -1
        self.needed = order.limit_out
        self.quoted = 0


class _Bucket:
    """Orders of a pair with amounts from ``floor`` to an eighth more, lowest limit first."""

    __slots__ = ("floor", "places")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.places: list[_Place] = []

    @property
    def lowest_key(self) -> int:
        return self.places[0].rank >> _ARRIVAL_BITS

    def remove(self, place: _Place) -> None:
        del self.places[bisect_left(self.places, place.rank, key=_rank)]

    def payable(self, prices: PairPrices) -> list[_Place]:
        """Return the orders whose limit the smallest amount may reach; no other order can be paid."""
        # The bucket may have been emptied meanwhile.
        if not self.places or not prices.reaches(self.floor, self.lowest_key * self.floor >> KEY_BITS):
            return []
        highest_key = price_key(prices.bound(self.floor) + 1, self.floor)
        end = bisect_left(self.places, highest_key + 1 << _ARRIVAL_BITS, key=_rank)
        return self.places[:end]


class LimitBook:
    """The resting limit orders of one process.

    For use in one event loop: calls do not block, and the book may change while ``match_pair`` is suspended.

    Args:
        rotation: See ``ROTATION``.
    """

    def __init__(self, *, rotation: int = ROTATION) -> None:
        self._rotation = rotation
        self._places: dict[str, _Place] = {}
        self._pairs: dict[Pair, dict[int, _Bucket]] = {}
        self._waiting: list[tuple[float, int, _Place]] = []
        self._arrivals = 0
        self._changes = 0

    def __len__(self) -> int:
        """Return how many orders rest, including those that wait for ``not_before``."""
        return len(self._places)

    def __contains__(self, order_id: object) -> bool:
        """Return whether an order rests."""
        return order_id in self._places

    def version(self, order_id: str) -> int | None:
        """Return the version at which an order rests here; None if it does not."""
        place = self._places.get(order_id)
        return None if place is None else place.order.version

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs with orders that may fire."""
        return tuple(self._pairs)

    @property
    def next_due(self) -> float | None:
        """When the next waiting order may fire, by PostgreSQL's clock; None if none waits."""
        while self._waiting and not self._waits(self._waiting[0]):
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def add(self, order: RestingLimit) -> bool:
        """Add an order, replacing an earlier version of it.

        A ``match_pair`` in progress may miss it: match it separately, as the market may pay it already.

        Returns:
            False if this version or a later one rests already; nothing was changed.
        """
        known = self._places.get(order.order_id)
        if known is not None:
            if known.order.version >= order.version:
                return False
            self.discard(order.order_id)
        place = self._places[order.order_id] = _Place(order)
        if order.not_before > 0:
            self._arrivals += 1
            heapq.heappush(self._waiting, (order.not_before, self._arrivals, place))
        else:
            self._enter(place)
        return True

    def discard(self, order_id: str) -> None:
        """Remove an order, if it rests."""
        place = self._places.pop(order_id, None)
        if place is None:
            return
        if place.rank < 0:
            # Its waiting entry is removed when it is due, or when most waiting entries are obsolete.
            if len(self._waiting) > 2 * len(self._places) + 64:
                self._waiting = [entry for entry in self._waiting if self._waits(entry)]
                heapq.heapify(self._waiting)
            return
        pair, floor = _pair(place.order), _floor(place.order.amount_in)
        bucket = self._pairs[pair][floor]
        bucket.remove(place)
        place.rank = -1
        if not bucket.places:
            del self._pairs[pair][floor]
            if not self._pairs[pair]:
                del self._pairs[pair]

    def admit(self, now: float) -> list[RestingLimit]:
        """Admit the orders whose ``not_before`` has passed.

        Args:
            now: PostgreSQL's time.

        Returns:
            Those orders, to be matched: the market may have reached their limits while they waited.
        """
        admitted = []
        while self._waiting and self._waiting[0][0] <= now:
            entry = heapq.heappop(self._waiting)
            if self._waits(entry):
                self._enter(entry[2])
                admitted.append(entry[2].order)
        return admitted

    def reset(self, pair: Pair) -> None:
        """Reset the bounds needed for another quote, because pools have been listed or closed."""
        for bucket in self._pairs.get(pair, {}).values():
            for place in bucket.places:
                place.needed = place.order.limit_out

    def match_pair(self, pair: Pair, prices: PairPrices) -> Iterator[FiredLimit | None]:
        """Remove, one by one, the orders of a pair whose limit the market pays.

        Args:
            pair: The pair whose market has changed.
            prices: Its current prices.

        Yields:
            Each order that fires, at once; None where the caller may pause: after each bucket, after each
            exact quote that falls short, and after every few hundred tests in between.
        """
        self._changes += 1
        change = self._changes
        passed_over: list[_Place] = []
        tests = 0
        for bucket in list(self._pairs.get(pair, {}).values()):
            for place in bucket.payable(prices):
                tests += 1
                if not tests % _TESTS_BETWEEN_PAUSES:
                    yield None
                if place.rank < 0:
                    continue  # removed meanwhile
                if prices.reaches(place.order.amount_in, place.needed):
                    yield self._quote(place, prices, change)
                elif place.needed > place.order.limit_out and _may_be_paid(place, prices):
                    passed_over.append(place)
            yield None
        for place in heapq.nsmallest(self._rotation, passed_over, key=lambda each: each.quoted):
            if place.rank >= 0:
                yield self._quote(place, prices, change)

    def match_order(self, order_id: str, prices: PairPrices) -> FiredLimit | None:
        """Remove one order if the market pays its limit; None if it does not, or the order may not fire now.

        Args:
            order_id: The order's id.
            prices: Its pair's current prices.
        """
        place = self._places.get(order_id)
        if place is None or place.rank < 0 or not _may_be_paid(place, prices):
            return None
        return self._quote(place, prices, self._changes)

    def _quote(self, place: _Place, prices: PairPrices, change: int) -> FiredLimit | None:
        order = place.order
        paid = prices.pays(order.amount_in, order.limit_out)
        if paid is not None and paid >= order.limit_out:
            self.discard(order.order_id)
            return FiredLimit(order, paid)
        bound = prices.least_bound(order.amount_in)
        # The limit, scaled by the bound's ratio to the quote; without a quote, any rise of the bound.
        needed = order.limit_out * bound // paid if paid else bound + 1
        place.needed = min(max(needed, order.limit_out), U64_MAX)
        place.quoted = change
        return None

    def _enter(self, place: _Place) -> None:
        order = place.order
        self._arrivals += 1
        place.rank = price_key(order.limit_out, order.amount_in) << _ARRIVAL_BITS | self._arrivals
        buckets = self._pairs.setdefault(_pair(order), {})
        floor = _floor(order.amount_in)
        bucket = buckets.get(floor)
        if bucket is None:
            bucket = buckets[floor] = _Bucket(floor)
        insort(bucket.places, place, key=_rank)

    def _waits(self, entry: tuple[float, int, _Place]) -> bool:
        place = entry[2]
        return place.rank < 0 and self._places.get(place.order.order_id) is place


def _may_be_paid(place: _Place, prices: PairPrices) -> bool:
    return prices.reaches(place.order.amount_in, place.order.limit_out)


def _rank(place: _Place) -> int:
    return place.rank


def _pair(order: RestingLimit) -> Pair:
    return order.token_in, order.token_out


def _floor(amount: int) -> int:
    """Return the smallest amount of an amount's bucket: its leading bits, followed by zeros."""
    cut = max(0, amount.bit_length() - _BUCKET_BITS)
    return amount >> cut << cut
