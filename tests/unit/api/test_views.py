"""An order as a client sees it: its state as of each entry of its history."""

from dataclasses import replace
from typing import Any, cast

import orjson
import pytest
from marshmallow import Schema

from service.api.fields import ListPosition
from service.api.responses import ORDER, ORDER_LIST, STATUS_UPDATE
from service.api.timeline import Timeline
from service.api.views import OrderAt
from service.domain.history import Committed, HistoryEntry
from service.domain.lifecycle import TERMINAL, Status
from service.domain.mode import TradingMode
from service.domain.order import Order, OrderType, Terms
from service.domain.quote import Amounts, SwapMode
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import Fill, Seen, SeenCommitment
from service.store.orders import Position

ORDER_ID = "0190a8f5-0000-7000-8000-000000000000"
QUOTED = Amounts(10**9, 150_000_000)
FILL = Fill(amount_in=10**9, amount_out=149_250_000, tx_hash="5sig")


def a_record(quote: dict[str, Any], route: dict[str, Any] | None = None) -> RoutingRecord:
    """Return a routing record of one quote, with the given values."""
    return RoutingRecord([cast("Any", quote)], cast("Any", route))


RECORD_1 = a_record(
    {"venue": "raydium", "amountOut": "149", "chosen": True}, {"venue": "raydium", "amountOut": "149"}
)
RECORD_2 = a_record(
    {"venue": "meteora", "amountOut": "148", "chosen": True}, {"venue": "meteora", "amountOut": "148"}
)


def entry(sequence: int, status: str, **detail: Any) -> HistoryEntry:
    at = f"2026-11-22T10:00:0{sequence}.000Z"
    return cast("HistoryEntry", {"sequence": sequence, "status": status, "timestamp": at, **detail})


SLIPPED = {"reason": "slippage_exceeded", "detail": "Less than the minimum."}

# A failed attempt, followed by one that is filled.
RETRIED = (
    entry(1, "pending"),
    entry(2, "routing", attempt=1),
    entry(3, "building", venue="raydium"),
    entry(4, "submitted", txHash="4sig", quotedIn="1", quotedOut="149"),
    entry(5, "pending", attempt=1, nextTryAt="2026-11-22T10:00:07.000Z", **SLIPPED),
    entry(6, "routing", attempt=2),
    entry(7, "building", venue="meteora"),
    entry(8, "submitted", txHash="5sig", quotedIn="1", quotedOut="150"),
    entry(9, "confirmed", txHash="5sig"),
)


def an_order(
    *history: HistoryEntry,
    fill: Fill | None = None,
    routing: dict[int, RoutingRecord] | None = None,
    quoted: Amounts | None = QUOTED,
    swap_mode: SwapMode = SwapMode.EXACT_IN,
) -> Order:
    return Order(
        id=ORDER_ID,
        account="default",
        mode=TradingMode.PAPER,
        client_order_id="mine-1",
        order_type=OrderType.MARKET,
        token_in="SOL",
        token_out="USDC",
        swap_mode=swap_mode,
        amount=10**9 if swap_mode is SwapMode.EXACT_IN else 10**6,
        amount_text="1.00",
        terms=Terms(slippage_bps=50),
        decimals_in=9,
        decimals_out=6,
        history=history,
        created_at="2026-11-22T10:00:01.000Z",
        quoted=quoted,
        fill=fill,
        routing=routing or {},
    )


FILLED = an_order(*RETRIED, fill=FILL, routing={3: RECORD_1, 7: RECORD_2})


@pytest.mark.parametrize("sequence", range(1, 10))
def test_an_order_is_shown_as_of_each_sequence(sequence: int) -> None:
    view = ORDER.dump(OrderAt(FILLED, sequence))
    last = RETRIED[sequence - 1]
    assert view["statusHistory"] == RETRIED[:sequence]
    assert (view["status"], view["updatedAt"]) == (last["status"], last["timestamp"])
    assert view["attempts"] == (0 if sequence < 2 else 1 if sequence < 6 else 2)
    record = None if sequence < 3 else RECORD_1 if sequence < 7 else RECORD_2
    assert view["quotes"] == (record and record.quotes)
    assert view["route"] == (record and record.route)
    assert view["venue"] == (None if sequence < 3 else "raydium" if sequence < 7 else "meteora")
    assert view["txHash"] == ("5sig" if sequence == 9 else None)
    assert view["amountOut"] == ("149.25" if sequence == 9 else None)
    assert view["executedPrice"] == ("149.25" if sequence == 9 else None)
    # The second attempt was quoted 150 and got 0.75 less.
    assert view["realisedSlippage"] == ("0.005" if sequence == 9 else None)
    assert view["failureReason"] is None


def test_every_view_has_what_the_client_sent() -> None:
    for sequence in range(1, 10):
        view = ORDER.dump(OrderAt(FILLED, sequence))
        assert view["id"] == view["orderId"] == ORDER_ID
        assert (view["clientOrderId"], view["orderType"], view["slippageBps"]) == ("mine-1", "market", 50)
        assert (view["tokenIn"], view["tokenOut"], view["amountIn"]) == ("SOL", "USDC", "1.00")
        assert view["swapMode"] == "exactIn"
        assert view["createdAt"] == "2026-11-22T10:00:01.000Z"


def test_the_failure_is_shown_only_at_failed() -> None:
    failed = an_order(
        *RETRIED[:2], entry(3, "failed", attempt=1, reason="no_route", detail="No pool trades this pair.")
    )
    assert ORDER.dump(OrderAt(failed, 2))["failureReason"] is None
    view = ORDER.dump(OrderAt(failed))
    assert (view["failureReason"], view["failureDetail"]) == ("no_route", "No pool trades this pair.")
    assert view["amountOut"] is view["executedPrice"] is view["txHash"] is None


def test_without_a_sequence_the_order_is_shown_as_it_is_now() -> None:
    assert ORDER.dump(OrderAt(FILLED)) == ORDER.dump(OrderAt(FILLED, 9))


def test_costs_add_up_entry_by_entry_and_the_residue_is_shown_with_the_fill() -> None:
    residue = [{"token": "USDC", "amount": "0.000007"}]
    history = (
        *RETRIED[:4],
        {**RETRIED[4], "networkCost": "0.000005"},
        *RETRIED[5:8],
        {**RETRIED[8], "networkCost": "0.00204528", "residue": residue},
    )
    order = an_order(*cast("Any", history), fill=FILL)
    timeline = Timeline()
    messages = [orjson.loads(timeline.message(order, sequence))["order"] for sequence in range(1, 10)]
    shown = [(message["networkCost"], message["residue"]) for message in messages]
    assert shown == [*[(None, None)] * 4, *[("0.000005", None)] * 4, ("0.00205028", residue)]
    views = [ORDER.dump(OrderAt(order, sequence)) for sequence in range(1, 10)]
    assert [(view["networkCost"], view["residue"]) for view in views] == shown


def test_a_submitted_order_shows_where_its_transaction_is_seen_and_as_of_no_entry() -> None:
    seen = Seen(905, SeenCommitment.PROCESSED, Fill(10**9, 149_000_000, "4sig"))
    order = replace(an_order(*RETRIED[:4]), seen=seen)
    shown = {"slot": 905, "commitment": "processed", "amountIn": "1", "amountOut": "149"}
    assert ORDER.dump(OrderAt(order))["execution"] == shown
    assert ORDER.dump(OrderAt(order, 4))["execution"] is None
    assert ORDER.dump(OrderAt(an_order(*RETRIED[:4])))["execution"] is None
    failing = replace(order, seen=Seen(905, SeenCommitment.CONFIRMED))
    assert ORDER.dump(OrderAt(failing))["execution"] == {
        "slot": 905,
        "commitment": "confirmed",
        "amountIn": None,
        "amountOut": None,
    }
    # The next step ends the attempt.
    assert order.after(Committed(ORDER_ID, RETRIED[4])).seen is None


def test_a_filled_order_without_costs_shows_none() -> None:
    view = ORDER.dump(OrderAt(FILLED))
    assert (view["networkCost"], view["residue"]) == (None, [])


def test_an_order_awaits_approval_as_of_each_entry() -> None:
    history = (
        entry(1, "pending"),
        entry(2, "open", awaitingApproval=True),
        entry(3, "open", amended={"slippageBps": {"from": 50, "to": 50}}),
        entry(4, "open", approvedBy="a1"),
        entry(5, "routing", attempt=1),
    )
    order = an_order(*history)
    timeline = Timeline()
    messages = [orjson.loads(timeline.message(order, sequence)) for sequence in range(1, 6)]
    shown = [message["order"]["awaitingApproval"] for message in messages]
    assert shown == [False, True, True, False, False]
    assert [ORDER.dump(OrderAt(order, sequence))["awaitingApproval"] for sequence in range(1, 6)] == shown
    refused = an_order(
        *history[:2], entry(3, "cancelled", refusedBy="a1", reason="approval_refused", detail="No.")
    )
    view = ORDER.dump(OrderAt(refused))
    assert view["awaitingApproval"] is False
    assert (view["failureReason"], view["failureDetail"]) == ("approval_refused", "No.")


def test_a_price_is_rounded_down_at_18_digits() -> None:
    third = an_order(*RETRIED, fill=Fill(3 * 10**9, 10**6, "5sig"))
    assert ORDER.dump(OrderAt(third))["executedPrice"] == "0.333333333333333333"


def test_an_exact_out_order_shows_its_amount_in_once_filled() -> None:
    bought = an_order(*RETRIED, fill=Fill(10**7, 10**6, "5sig"), swap_mode=SwapMode.EXACT_OUT)
    for sequence in range(1, 9):
        view = ORDER.dump(OrderAt(bought, sequence))
        assert (view["swapMode"], view["amountIn"], view["amountOut"]) == ("exactOut", None, "1.00")
    view = ORDER.dump(OrderAt(bought))
    assert (view["amountIn"], view["amountOut"], view["executedPrice"]) == ("0.01", "1", "100")
    # The quote was 1 SOL, a hundred times what it paid.
    assert view["realisedSlippage"] == "-0.99"


@pytest.mark.parametrize(
    ("mode", "fill", "slippage"),
    [
        (SwapMode.EXACT_IN, Fill(10**9, 150_000_000, "5sig"), "0"),
        (SwapMode.EXACT_IN, Fill(10**9, 150_000_015, "5sig"), "-0.0000001"),
        (SwapMode.EXACT_IN, Fill(10**9, 149_999_999, "5sig"), "0.00000001"),
        (SwapMode.EXACT_OUT, Fill(10**9, 10**6, "5sig"), "0"),
        (SwapMode.EXACT_OUT, Fill(1_010_000_000, 10**6, "5sig"), "0.01"),
    ],
)
def test_a_higher_realised_slippage_is_worse_on_either_side(
    mode: SwapMode, fill: Fill, slippage: str
) -> None:
    assert ORDER.dump(OrderAt(an_order(*RETRIED, fill=fill, swap_mode=mode)))["realisedSlippage"] == slippage


def test_without_a_quote_there_is_no_realised_slippage() -> None:
    view = ORDER.dump(OrderAt(an_order(*RETRIED, fill=FILL, quoted=None)))
    assert view["executedPrice"] == "149.25"
    assert view["realisedSlippage"] is None


def test_quotes_without_a_route_are_shown() -> None:
    refused = a_record({"venue": "raydium", "poolId": "p", "reason": "amount_too_small"})
    failed = an_order(
        *RETRIED[:2],
        entry(3, "failed", attempt=1, reason="amount_too_small", detail="Too small."),
        routing={3: refused},
    )
    view = ORDER.dump(OrderAt(failed))
    assert (view["quotes"], view["route"]) == (refused.quotes, None)


def test_a_confirmed_order_without_a_fill_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no fill"):
        OrderAt(an_order(*RETRIED))


def test_a_status_update_shows_the_order_as_of_its_entry() -> None:
    message = STATUS_UPDATE.dump(OrderAt(FILLED, 5))
    assert message == {
        "type": "status_update",
        "orderId": ORDER_ID,
        "sequence": 5,
        "status": "pending",
        "timestamp": "2026-11-22T10:00:05.000Z",
        "order": ORDER.dump(OrderAt(FILLED, 5)),
    }


SEEN = replace(
    an_order(*RETRIED[:4]), seen=Seen(905, SeenCommitment.PROCESSED, Fill(10**9, 149_000_000, "4sig"))
)


@pytest.mark.parametrize("order", [FILLED, SEEN], ids=["filled", "seen"])
def test_the_members_and_their_order_are_those_of_the_schema(order: Order) -> None:
    for schema, view in ((ORDER, OrderAt(order)), (STATUS_UPDATE, OrderAt(order, 1))):
        # As marshmallow writes it, member by member.
        assert orjson.dumps(schema.dump(view)) == orjson.dumps(Schema.dump(schema, view))


def test_many_orders_are_written_one_by_one() -> None:
    views = [OrderAt(FILLED, 4), OrderAt(FILLED)]
    assert ORDER.dump(views, many=True) == [ORDER.dump(view) for view in views]


def test_a_page_ends_with_a_cursor_or_null() -> None:
    page = {"orders": [OrderAt(FILLED)], "next_cursor": ListPosition(Position(1, ORDER_ID), "0123456789ab")}
    assert ORDER_LIST.dump(page)["orders"] == [ORDER.dump(OrderAt(FILLED))]
    assert isinstance(ORDER_LIST.dump(page)["nextCursor"], str)
    assert ORDER_LIST.dump({**page, "next_cursor": None})["nextCursor"] is None


def test_steps_are_applied_to_an_order_one_by_one() -> None:
    order = an_order(RETRIED[0], quoted=None)
    for each in RETRIED[1:]:
        order = order.after(
            Committed(
                ORDER_ID,
                each,
                routing={3: RECORD_1, 7: RECORD_2}.get(each["sequence"]),
                quoted=FILLED.quoted if each["status"] == "submitted" else None,
                fill=FILL if each["status"] == "confirmed" else None,
            )
        )
        assert (order.version, order.status) == (each["sequence"], each["status"])
        assert order.ended == (order.status in TERMINAL)
    assert order == FILLED


@pytest.mark.parametrize("sequence", [1, 2, 4])
def test_a_step_out_of_sequence_is_rejected(sequence: int) -> None:
    order = an_order(*RETRIED[:2])
    with pytest.raises(ValueError, match=f"step {sequence} does not follow version 2"):
        order.after(Committed(ORDER_ID, entry(sequence, "building")))


def test_a_step_changes_a_copy() -> None:
    before = an_order(*RETRIED[:2])
    after = before.after(Committed(ORDER_ID, RETRIED[2], routing=RECORD_1))
    assert (before.version, before.status, before.routing) == (2, Status.ROUTING, {})
    assert (after.version, after.status, after.routing) == (3, Status.BUILDING, {3: RECORD_1})


@pytest.mark.parametrize("listed", [True, False], ids=["listed when placed", "listed later"])
def test_an_order_with_unknown_tokens_is_shown(listed: bool) -> None:
    """Another instance may have just listed its tokens."""
    order = replace(
        an_order(*RETRIED[:8]), token_in="NEITHER", token_out="NOR", decimals_out=6 if listed else None
    )
    step = Committed(ORDER_ID, RETRIED[8], fill=FILL, decimals_out=6)
    view = ORDER.dump(OrderAt(order.after(step)))
    assert (view["tokenOut"], view["amountOut"], view["executedPrice"]) == ("NOR", "149.25", "149.25")
    assert view["realisedSlippage"] == ORDER.dump(OrderAt(FILLED))["realisedSlippage"]
