"""The messages of a stream: byte for byte the order as of each entry, and each entry serialised once."""

from dataclasses import replace
from typing import Any, Literal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api import views
from service.api.responses import ORDER, STATUS_UPDATE
from service.api.timeline import Timeline
from service.api.views import OrderAt
from service.domain import order as domain
from service.domain.history import HistoryEntry
from service.domain.order import Order, OrderType, Terms
from tests.unit.api.test_views import FILL, FILLED, a_record, an_order, entry

MODEST = settings(max_examples=60, deadline=None)


def amended_order(amendments: int) -> Order:
    """Return a resting order whose price was raised so many times."""
    raised = [
        entry(3 + n, "open", amended={"limitPrice": {"from": str(100 + n), "to": str(101 + n)}})
        for n in range(amendments)
    ]
    order = an_order(entry(1, "pending"), entry(2, "open"), *raised)
    return replace(order, order_type=OrderType.LIMIT, terms=Terms(100, "GTC", str(100 + amendments), 1))


def written_out(order: Order, sequence: int) -> bytes:
    """Return a message without any cached part."""
    return orjson.dumps(STATUS_UPDATE.dump(OrderAt(order, sequence)))


@pytest.mark.parametrize("order", [FILLED, amended_order(30)])
def test_every_message_is_byte_for_byte_the_order_as_of_its_entry(order: Order) -> None:
    for after in range(order.version):
        messages = Timeline()
        for sequence in range(after + 1, order.version + 1):
            assert messages.message(order, sequence) == written_out(order, sequence)


def test_the_last_message_equals_the_response_to_a_get() -> None:
    whole = orjson.dumps(ORDER.dump(OrderAt(FILLED)))
    assert whole in Timeline().message(FILLED, FILLED.version)


def test_terms_are_shown_as_of_each_entry() -> None:
    order, messages = amended_order(3), Timeline()
    told = [orjson.loads(messages.message(order, n))["order"]["limitPrice"] for n in range(1, 6)]
    assert told == ["100", "100", "101", "102", "103"]


_DETAILS: list[dict[str, Any]] = [
    {"status": "routing", "attempt": 1},
    {"status": "building", "venue": "raydium"},
    {"status": "submitted", "quotedIn": "1", "quotedOut": "150"},
    {"status": "pending", "reason": "slippage_exceeded", "detail": 'He said "no" \u2026'},
    {"status": "open", "amended": {"slippageBps": {"from": 50, "to": 50}}},
]


@MODEST
@given(st.lists(st.tuples(st.sampled_from(_DETAILS), st.booleans()), max_size=12), st.data())
def test_every_watcher_gets_the_same_from_any_entry(
    steps: list[tuple[HistoryEntry, bool]], data: st.DataObject
) -> None:
    history = [entry(1, "pending")]
    routing = {}
    for sequence, (detail, has_quotes) in enumerate(steps, 2):
        history.append({**entry(sequence, ""), **detail})
        if has_quotes:
            routing[sequence] = a_record({"venue": "raydium", "poolId": str(sequence)})
    order = an_order(*history, routing=routing)
    messages = Timeline()
    for sequence in data.draw(st.lists(st.integers(1, order.version), max_size=20)):
        # As a feed has it: at the entry, or at a later one.
        known = data.draw(st.integers(sequence, order.version))
        seen = replace(
            order,
            history=order.history[:known],
            routing={n: each for n, each in order.routing.items() if n <= known},
        )
        assert messages.message(seen, sequence) == written_out(order, sequence)


def test_a_replay_serialises_each_entry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    order = replace(amended_order(200), fill=FILL)
    calls = {"dumps": 0, "amendments": 0}
    real_dumps, real_apply = orjson.dumps, domain.apply_amendment

    def dumps(value: Any) -> bytes:
        calls["dumps"] += 1
        return real_dumps(value)

    def apply(terms: Terms, step: HistoryEntry, side: Literal["from", "to"]) -> Terms:
        calls["amendments"] += 1
        return real_apply(terms, step, side)

    monkeypatch.setattr(orjson, "dumps", dumps)
    monkeypatch.setattr(views, "apply_amendment", apply)
    messages = Timeline()
    for _watcher in range(3):
        for sequence in range(1, order.version + 1):
            messages.message(order, sequence)
    # The entries once; a message for each of them and each watcher.
    assert calls == {"dumps": order.version * 4, "amendments": order.version}


def test_live_watchers_share_each_message() -> None:
    messages = Timeline()
    assert messages.message(FILLED, 4) is messages.message(FILLED, 4)
