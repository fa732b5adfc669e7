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

    def may_reach(self, amount: int, out: int) -> bool:
        """Return whether an amount's output may reach ``out``; False is certain."""
        ...

    def quote(self, amount: int, minimum_out: int) -> int | None:
        """Return the exact output of the best quote; None without a quote.

        Another quote may be returned instead, if it pays ``minimum_out``.
        """
        ...


@dataclass(frozen=True, slots=True)
class RestingLimit:
    """A resting limit order: the fields of a ``RestingOrder`` that the book needs, as it holds very many.

    Attributes:
        amount_in: Base units of ``token_in``, positive.
        limit_out: The minimum output, in base units of ``token_out``, see ``limit_price.limit_out``.
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


class _Entry:
    """An order's entry in the book.

    Attributes:
        rank: Its sort key in its bucket: its price's key, then its arrival number. -1 while it waits for
            ``not_before``, and after its removal.
        required_bound: The bound on its output at which it is quoted (again).
        last_quoted: The number of the market's change at which its quote last fell short.
    """

    __slots__ = ("last_quoted", "order", "rank", "required_bound")

    def __init__(self, order: RestingLimit) -> None:
        self.order = order
        self.rank = -1
        self.required_bound = order.limit_out
        self.last_quoted = 0


class _Bucket:
    """Orders of a pair with amounts from ``floor`` to an eighth more, lowest limit first."""

    __slots__ = ("entries", "floor")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.entries: list[_Entry] = []

    @property
    def lowest_key(self) -> int:
        return self.entries[0].rank >> _ARRIVAL_BITS

    def remove(self, entry: _Entry) -> None:
        del self.entries[bisect_left(self.entries, entry.rank, key=_rank)]

    def candidates(self, prices: PairPrices) -> list[_Entry]:
        """Return the entries whose limit the smallest amount may reach; no other order can be paid."""
        # The bucket may have been emptied meanwhile.
        if not self.entries or not prices.may_reach(self.floor, self.lowest_key * self.floor >> KEY_BITS):
            return []
        highest_key = price_key(prices.bound(self.floor) + 1, self.floor)
        end = bisect_left(self.entries, highest_key + 1 << _ARRIVAL_BITS, key=_rank)
        return self.entries[:end]


class LimitBook:
    """The resting limit orders of one process.

    For use in one event loop: calls do not block, and the book may change while ``match_pair`` is suspended.

    Args:
        rotation: See ``ROTATION``.
    """

    def __init__(self, *, rotation: int = ROTATION) -> None:
        self._rotation = rotation
        self._entries: dict[str, _Entry] = {}
        self._pairs: dict[Pair, dict[int, _Bucket]] = {}
        # A heap of the entries that wait: by ``not_before``, then by arrival number.
        self._waiting: list[tuple[float, int, _Entry]] = []
        self._arrivals = 0
        self._changes = 0

    def __len__(self) -> int:
        """Return how many orders rest, including those that wait for ``not_before``."""
        return len(self._entries)

    def __contains__(self, order_id: object) -> bool:
        """Return whether an order rests."""
        return order_id in self._entries

    def version(self, order_id: str) -> int | None:
        """Return the version at which an order rests here; None if it does not."""
        entry = self._entries.get(order_id)
        return None if entry is None else entry.order.version

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
        known = self._entries.get(order.order_id)
        if known is not None:
            if known.order.version >= order.version:
                return False
            self.discard(order.order_id)
        entry = self._entries[order.order_id] = _Entry(order)
        if order.not_before > 0:
            self._arrivals += 1
            heapq.heappush(self._waiting, (order.not_before, self._arrivals, entry))
        else:
            self._insert(entry)
        return True

    def discard(self, order_id: str) -> None:
        """Remove an order, if it rests."""
        entry = self._entries.pop(order_id, None)
        if entry is None:
            return
        if entry.rank < 0:
            # Its item in the heap is removed when it is due, or when most items are obsolete.
            if len(self._waiting) > 2 * len(self._entries) + 64:
                self._waiting = [each for each in self._waiting if self._waits(each)]
                heapq.heapify(self._waiting)
            return
        pair, floor = _pair(entry.order), _floor(entry.order.amount_in)
        bucket = self._pairs[pair][floor]
        bucket.remove(entry)
        entry.rank = -1
        if not bucket.entries:
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
            waiting = heapq.heappop(self._waiting)
            if self._waits(waiting):
                self._insert(waiting[2])
                admitted.append(waiting[2].order)
        return admitted

    def reset(self, pair: Pair) -> None:
        """Forget that quotes of a pair fell short, because pools have been added or removed."""
        for bucket in self._pairs.get(pair, {}).values():
            for entry in bucket.entries:
                entry.required_bound = entry.order.limit_out

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
        passed_over: list[_Entry] = []
        tests = 0
        for bucket in list(self._pairs.get(pair, {}).values()):
            for entry in bucket.candidates(prices):
                tests += 1
                if not tests % _TESTS_BETWEEN_PAUSES:
                    yield None
                if entry.rank < 0:
                    continue  # removed meanwhile
                if prices.may_reach(entry.order.amount_in, entry.required_bound):
                    yield self._quote(entry, prices, change)
                elif entry.required_bound > entry.order.limit_out and _may_reach_limit(entry, prices):
                    passed_over.append(entry)
            yield None
        for entry in heapq.nsmallest(self._rotation, passed_over, key=lambda each: each.last_quoted):
            if entry.rank >= 0:
                yield self._quote(entry, prices, change)

    def match_order(self, order_id: str, prices: PairPrices) -> FiredLimit | None:
        """Remove one order if the market pays its limit; None if it does not, or the order may not fire now.

        Args:
            order_id: The order's id.
            prices: Its pair's current prices.
        """
        entry = self._entries.get(order_id)
        if entry is None or entry.rank < 0 or not _may_reach_limit(entry, prices):
            return None
        return self._quote(entry, prices, self._changes)

    def _quote(self, entry: _Entry, prices: PairPrices, change: int) -> FiredLimit | None:
        order = entry.order
        amount_out = prices.quote(order.amount_in, order.limit_out)
        if amount_out is not None and amount_out >= order.limit_out:
            self.discard(order.order_id)
            return FiredLimit(order, amount_out)
        bound = prices.least_bound(order.amount_in)
        # The limit, scaled by the bound's ratio to the quote; without a quote, any rise of the bound.
        required_bound = order.limit_out * bound // amount_out if amount_out else bound + 1
        entry.required_bound = min(max(required_bound, order.limit_out), U64_MAX)
        entry.last_quoted = change
        return None

    def _insert(self, entry: _Entry) -> None:
        order = entry.order
        self._arrivals += 1
        entry.rank = price_key(order.limit_out, order.amount_in) << _ARRIVAL_BITS | self._arrivals
        buckets = self._pairs.setdefault(_pair(order), {})
        floor = _floor(order.amount_in)
        bucket = buckets.get(floor)
        if bucket is None:
            bucket = buckets[floor] = _Bucket(floor)
        insort(bucket.entries, entry, key=_rank)

    def _waits(self, waiting: tuple[float, int, _Entry]) -> bool:
        entry = waiting[2]
        return entry.rank < 0 and self._entries.get(entry.order.order_id) is entry


def _may_reach_limit(entry: _Entry, prices: PairPrices) -> bool:
    return prices.may_reach(entry.order.amount_in, entry.order.limit_out)


def _rank(entry: _Entry) -> int:
    return entry.rank


def _pair(order: RestingLimit) -> Pair:
    return order.token_in, order.token_out


def _floor(amount: int) -> int:
    """Return the smallest amount of an amount's bucket: its leading bits, followed by zeros."""
    cut = max(0, amount.bit_length() - _BUCKET_BITS)
    return amount >> cut << cut
