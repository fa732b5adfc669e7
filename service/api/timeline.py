"""An order's WebSocket messages: message N shows the order at its N-th entry, with its history up to there.

So every entry is sent again in all later messages. It is serialised only once, and so are the quotes and the
route of each attempt: the cost of a replay is proportional to its bytes.
"""

from dataclasses import dataclass

import orjson

from service.api.execution_schemas import EXECUTION_SEEN
from service.api.responses import STATUS_UPDATE
from service.api.views import OrderAt, StateAt, execution_of
from service.domain.history import HistoryEntry
from service.domain.order import Order, first_terms
from service.domain.routing_record import RoutingRecord
from service.turns import Steps, finished


@dataclass(frozen=True, slots=True)
class _Moment:
    """An order at one entry: the end of its part of the serialised history, and its state."""

    end: int
    state: StateAt
    quotes: orjson.Fragment
    route: orjson.Fragment


def execution_message(order: Order) -> bytes:
    """Return the message of where an order's transaction is seen now, which is not an entry."""
    return orjson.dumps(EXECUTION_SEEN.dump({"order_id": order.id, "execution": execution_of(order)}))


class Timeline:
    """The messages of one order, shared by all its watchers: work done for one is reused for the next."""

    def __init__(self) -> None:
        self._history = bytearray()
        self._moments: list[_Moment] = []
        self._quotes = self._route = orjson.Fragment(b"null")
        self._last: tuple[int, bytes] = (0, b"")

    def message(self, order: Order, sequence: int) -> bytes:
        """Return the message of an entry.

        Args:
            order: The same order as before, at that entry or later.
            sequence: The entry's sequence.
        """
        if self._last[0] != sequence:
            # All live watchers request the same one.
            self._last = (sequence, self._write(order, sequence))
        return self._last[1]

    def grow(self, order: Order, sequence: int) -> Steps[None]:
        """Prepare for the message of an entry, in steps, since many entries may precede it."""
        # Another watcher may have prepared as much or more between two steps.
        while (ready := len(self._moments)) < sequence:
            entry = order.history[ready]
            routing = order.routing.get(entry["sequence"])
            state = self._moments[-1].state if ready else StateAt(first_terms(order))
            self._append(entry, routing, state.after(entry, routing))
            yield

    def _write(self, order: Order, sequence: int) -> bytes:
        finished(self.grow(order, sequence))
        moment = self._moments[sequence - 1]
        view = OrderAt(order, sequence, moment.state)
        view.status_history = orjson.Fragment(b"[" + bytes(self._history[: moment.end]) + b"]")
        view.quotes, view.route = moment.quotes, moment.route
        return orjson.dumps(STATUS_UPDATE.dump(view))

    def _append(self, entry: HistoryEntry, routing: RoutingRecord | None, state: StateAt) -> None:
        if routing is not None:
            self._quotes = orjson.Fragment(orjson.dumps(routing.quotes))
            self._route = orjson.Fragment(orjson.dumps(routing.route))
        if self._history:
            self._history += b","
        self._history += orjson.dumps(entry)
        self._moments.append(_Moment(len(self._history), state, self._quotes, self._route))
