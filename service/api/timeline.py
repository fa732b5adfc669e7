"""An order's messages: message N shows the order as it stood at its N-th entry, history and all.

The history is in each message as far as it went then, so each entry goes out as often as messages follow it.
It is serialised once, and so are the quotes and the route of each attempt: a replay costs what its bytes do.
"""

from dataclasses import dataclass

import orjson

from service.api.responses import STATUS_UPDATE
from service.api.views import OrderAt, SoFar
from service.domain.history import HistoryEntry
from service.domain.order import Order, first_terms
from service.domain.routing_record import RoutingRecord
from service.turns import Steps, finished


@dataclass(frozen=True, slots=True)
class _Moment:
    """An order at one entry: where its history ends in the serialised one, and what it says up to there."""

    end: int
    so_far: SoFar
    quotes: orjson.Fragment
    route: orjson.Fragment


class Timeline:
    """The messages of one order, for all who watch it: what one of them needed is there for the next."""

    def __init__(self) -> None:
        self._history = bytearray()
        self._moments: list[_Moment] = []
        self._quotes = self._route = orjson.Fragment(b"null")
        self._last: tuple[int, bytes] = (0, b"")

    def message(self, order: Order, sequence: int) -> bytes:
        """Return the message of an entry.

        Args:
            order: The same as before, at that entry or later.
            sequence: The entry's.
        """
        if self._last[0] != sequence:
            # Those who follow it live all ask for the same one.
            self._last = (sequence, self._write(order, sequence))
        return self._last[1]

    def grow(self, order: Order, sequence: int) -> Steps[None]:
        """Get ready for the message of an entry, which takes a while when many come before it."""
        # Whoever else watches may have got it ready, or further, between two steps.
        while (ready := len(self._moments)) < sequence:
            entry = order.history[ready]
            routing = order.routing.get(entry["sequence"])
            so_far = self._moments[-1].so_far if ready else SoFar(first_terms(order))
            self._take(entry, routing, so_far.after(entry, routing))
            yield

    def _write(self, order: Order, sequence: int) -> bytes:
        finished(self.grow(order, sequence))
        moment = self._moments[sequence - 1]
        view = OrderAt(order, sequence, moment.so_far)
        view.status_history = orjson.Fragment(b"[" + bytes(self._history[: moment.end]) + b"]")
        view.quotes, view.route = moment.quotes, moment.route
        return orjson.dumps(STATUS_UPDATE.dump(view))

    def _take(self, entry: HistoryEntry, routing: RoutingRecord | None, so_far: SoFar) -> None:
        if routing is not None:
            self._quotes = orjson.Fragment(orjson.dumps(routing.quotes))
            self._route = orjson.Fragment(orjson.dumps(routing.route))
        if self._history:
            self._history += b","
        self._history += orjson.dumps(entry)
        self._moments.append(_Moment(len(self._history), so_far, self._quotes, self._route))
