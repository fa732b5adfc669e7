"""The resting sniper orders of one process, by pair."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from service.domain.condition_parser import parse_conditions
from service.domain.conditions import PairFacts, SniperConditions, holds
from service.domain.history import conditions_held
from service.store.resting import Fired, RestingOrder
from service.triggers.book import Pair

_TESTS_BETWEEN_PAUSES = 64
_SPARE_OPENINGS = 100


@dataclass(frozen=True, slots=True)
class _Sniper:
    """A resting sniper order: its conditions are parsed once, not for every check."""

    order_id: str
    version: int
    pair: Pair
    created_at: float
    conditions: SniperConditions


class Snipers:
    """Sniper orders whose conditions have not held yet."""

    def __init__(self) -> None:
        self._snipers: dict[str, _Sniper] = {}
        self._by_pair: dict[Pair, dict[str, _Sniper]] = {}
        # When time windows open, and whose; also of some orders that were removed or amended.
        self._openings: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Return how many orders rest."""
        return len(self._snipers)

    @property
    def pairs(self) -> set[Pair]:
        """The pairs that are watched."""
        return set(self._by_pair)

    @property
    def next_opening(self) -> float | None:
        """When a time window opens next, by PostgreSQL's clock; None if none does."""
        return self._openings[0][0] if self._openings else None

    def pop_opened(self, now_s: float) -> set[Pair]:
        """Return the pairs of the orders whose time windows have opened since the last call.

        Args:
            now_s: PostgreSQL's time, in seconds since the Unix epoch.
        """
        opened = set()
        while self._openings and self._openings[0][0] <= now_s:
            sniper = self._snipers.get(heapq.heappop(self._openings)[1])
            if sniper is not None:
                opened.add(sniper.pair)
        return opened

    def add(self, order: RestingOrder) -> bool:
        """Add an order, replacing another version of it.

        Returns:
            False if this version rests already.

        Raises:
            ConditionError: Its conditions cannot be parsed.
        """
        known = self._snipers.get(order.order_id)
        if known is not None and known.version == order.version:
            return False
        self.discard(order.order_id)
        sniper = _Sniper(
            order.order_id,
            order.version,
            (order.token_in, order.token_out),
            order.created_at,
            parse_conditions(order.sniper_conditions, None),
        )
        self._snipers[order.order_id] = sniper
        self._by_pair.setdefault(sniper.pair, {})[order.order_id] = sniper
        if sniper.conditions.not_before is not None:
            heapq.heappush(self._openings, (sniper.conditions.not_before.timestamp(), order.order_id))
            if len(self._openings) > 2 * len(self._snipers) + _SPARE_OPENINGS:
                self._forget_openings()
        return True

    def _forget_openings(self) -> None:
        """Drop the openings of removed orders: a window may open in many years."""
        self._openings = [
            (sniper.conditions.not_before.timestamp(), sniper.order_id)
            for sniper in self._snipers.values()
            if sniper.conditions.not_before is not None
        ]
        heapq.heapify(self._openings)

    def version(self, order_id: str) -> int | None:
        """Return the version at which an order rests here; None if it does not."""
        sniper = self._snipers.get(order_id)
        return None if sniper is None else sniper.version

    def discard(self, order_id: str) -> None:
        """Remove an order, if it rests."""
        sniper = self._snipers.pop(order_id, None)
        if sniper is None:
            return
        of_pair = self._by_pair[sniper.pair]
        del of_pair[order_id]
        if not of_pair:
            del self._by_pair[sniper.pair]

    def match_pair(self, pair: Pair, facts: PairFacts, slot_ms: int, now_s: float) -> Iterator[Fired | None]:
        """Remove, one by one, the orders of a pair whose conditions hold.

        Args:
            pair: The pair.
            facts: Its current facts.
            slot_ms: A slot's length: a pool opened in the slot of an order's acceptance counts as later.
            now_s: PostgreSQL's time, in seconds since the Unix epoch.

        Yields:
            Each order that fires; None where the caller may pause.
        """
        now = datetime.fromtimestamp(now_s, UTC)
        for number, sniper in enumerate([*self._by_pair.get(pair, {}).values()]):
            if number % _TESTS_BETWEEN_PAUSES == 0:
                yield None
            accepted_at = int(sniper.created_at * 1000) // slot_ms * slot_ms / 1000
            if holds(sniper.conditions, facts, accepted_at, now):
                observed = conditions_held(sniper.conditions, facts, accepted_at)
                self.discard(sniper.order_id)
                yield Fired(sniper.order_id, sniper.version, observed)
