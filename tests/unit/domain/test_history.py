"""The entries of an order's history: what each contains, and the part that clients see."""

from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from service.domain import history
from service.domain.condition_parser import parse_conditions
from service.domain.conditions import Opened
from service.domain.failures import Failure, FailureCode
from service.domain.history import HistoryEntry, StoredEntry, observed, public
from service.domain.lifecycle import Status
from service.domain.order import AMENDABLE, Terms, apply_amendment
from service.domain.quote import Dex, Leg, Path, Route, SwapMode
from service.domain.transaction import (
    Fill,
    Landing,
    NetworkCost,
    Residue,
    SignedTransaction,
    SimulatedSwap,
)
from tests.unit.domain.test_conditions import ACCEPTED, EVERYTHING, NOW, facts

AT = "2027-01-15T12:00:00.000000Z"


def test_observations_are_serialisable_as_json() -> None:
    seen = observed(parse_conditions(EVERYTHING, NOW), facts(), ACCEPTED)
    assert orjson.loads(orjson.dumps(seen)) == {
        "price": "1.6",
        "poolId": "new",
        "liquidity": {"amount": "50000", "unit": "usd"},
        "volume": {"amount": "1000", "seconds": 60},
    }
    window = parse_conditions({"timeWindow": EVERYTHING["timeWindow"]}, NOW)
    assert observed(window, facts(price=None), ACCEPTED) == {}


def test_of_several_new_pools_the_latest_is_named() -> None:
    newest = {Dex.METEORA: Opened(ACCEPTED + 1, "later"), Dex.RAYDIUM: Opened(ACCEPTED, "soon")}
    conditions = parse_conditions({"poolCreated": {"venue": "any"}}, NOW)
    assert observed(conditions, facts(newest=newest), ACCEPTED)["poolId"] == "later"


def test_clients_see_the_common_members_first_and_never_the_write_id() -> None:
    # The order in which PostgreSQL returns the members of a JSONB object: by length, then by letter.
    stored: StoredEntry = {
        "venue": "raydium",
        "status": "building",
        "writeId": "w",
        "sequence": 3,
        "timestamp": AT,
    }
    assert list(public(stored).items()) == [
        ("sequence", 3),
        ("status", "building"),
        ("timestamp", AT),
        ("venue", "raydium"),
    ]
    assert history.opened(AT) == {"sequence": 2, "status": "open", "timestamp": AT}
    assert history.opened(AT, awaiting_approval=True) == {**history.opened(AT), "awaitingApproval": True}


def test_a_transaction_entry_has_its_quote_and_limits_in_display_units() -> None:
    leg = Leg(Dex.RAYDIUM, "p", "SOL", "USDC", 1_500_000_000, 225_500_000, 0, 0, 0)
    route = Route(SwapMode.EXACT_IN, "SOL", "USDC", (Path((leg,)),), 0)
    transaction = SignedTransaction("5sig", "paper", b"", 1_500_000_000, 223_245_000, 9)
    assert history.routed(route) == {"venue": "raydium"}
    assert history.signed(transaction, route) == {
        "txHash": "5sig",
        "quotedIn": "1.5",
        "quotedOut": "225.5",
        "maximumIn": "1.5",
        "minimumOut": "223.245",
    }


def test_an_attempt_that_was_simulated_has_what_it_would_have_done() -> None:
    failure = Failure.of(FailureCode.SIMULATED)
    told = SimulatedSwap("SOL", "USDC", NetworkCost(5_000, rent=1_000), 1_500_000_000, 225_500_000)
    entry = history.attempt_failed(1, failure, simulated=told)
    assert entry["simulated"] == {"amountIn": "1.5", "amountOut": "225.5", "networkCost": "0.000006"}
    # It has cost nothing.
    assert "networkCost" not in entry
    unknown = history.attempt_failed(1, failure, simulated=SimulatedSwap("SOL", "USDC", NetworkCost(5_000)))
    assert unknown["simulated"] == {"networkCost": "0.000005"}


def test_a_landing_has_its_slot_if_the_venue_knows_it() -> None:
    fill = Fill(1, 1, "5sig")
    assert history.landed(fill, None) == {"txHash": "5sig"}
    assert history.landed(fill, Landing(7, AT)) == {"txHash": "5sig", "landedSlot": 7, "landedAt": AT}


def test_a_landing_has_its_cost_and_what_it_left() -> None:
    fill, cost = Fill(1, 1, "5sig"), NetworkCost(5_000, 1_000, 2_039_280)
    residue = (Residue("USDC", 1_234_567), Residue("SOL", 1))
    assert history.landed(fill, None, cost, residue) == {
        "txHash": "5sig",
        "networkCost": "0.00204528",
        "residue": [{"token": "USDC", "amount": "1.234567"}, {"token": "SOL", "amount": "0.000000001"}],
    }


def test_a_failed_attempt_has_its_number_and_an_end_has_none() -> None:
    failure = Failure.of(FailureCode.NO_ROUTE)
    reason = {"reason": "no_route", "detail": "No pool trades this pair."}
    assert history.attempt_failed(2, failure) == {"attempt": 2, **reason}
    assert history.attempt_failed(2, failure, NetworkCost(5_000)) == {
        "attempt": 2,
        **reason,
        "networkCost": "0.000005",
    }
    assert history.ended(failure) == reason


@pytest.mark.parametrize(
    ("costs", "total"),
    [
        ([], None),
        ([None], None),
        ([NetworkCost(0)], "0"),
        ([NetworkCost(5_000), None, NetworkCost(0)], "0.000005"),
        ([NetworkCost(1, 2, 3), NetworkCost(10**9), NetworkCost(0, 0, 10**18)], "1000000001.000000006"),
    ],
)
def test_the_costs_of_an_order_add_up(costs: list[NetworkCost | None], total: str | None) -> None:
    failure, found = Failure.of(FailureCode.TRANSACTION_FAILED), None
    for number, cost in enumerate(costs, 1):
        entry: Any = {"sequence": number, "status": "pending", **history.attempt_failed(1, failure, cost)}
        found = history.total_cost(found, entry)
    assert found == total


def test_a_limit_order_entry_has_the_quoted_price() -> None:
    assert history.price_reached("SOL", 2 * 10**9, "USDC", 301 * 10**6) == {"triggeredBy": {"price": "150.5"}}


def test_a_decision_names_its_key_and_a_refusal_its_reason() -> None:
    assert history.approved("a1", None) == {"approvedBy": "a1"}
    assert history.approved("a1", "fine") == {"approvedBy": "a1", "detail": "fine"}
    by_default = "The order was not approved."
    for told, expected in ((None, by_default), ("too large", "too large")):
        refusal = {"refusedBy": "a1", "reason": "approval_refused", "detail": expected}
        assert history.refused("a1", told) == refusal


@pytest.mark.parametrize(
    ("details", "status", "before", "after"),
    [
        ({}, "open", False, False),
        ({"awaitingApproval": True}, "open", False, True),
        ({"amended": {}}, "open", True, True),
        ({"amended": {}}, "open", False, False),
        ({"amended": {}, "awaitingApproval": True}, "open", False, True),
        ({"approvedBy": "a1"}, "open", True, False),
        ({"refusedBy": "a1"}, "cancelled", True, False),
        ({}, "cancelled", True, False),
        ({}, "expired", True, False),
    ],
)
def test_an_order_awaits_approval_until_it_is_approved_or_has_ended(
    details: Any, status: str, *, before: bool, after: bool
) -> None:
    entry = cast("HistoryEntry", {**details, "sequence": 3, "status": status, "timestamp": AT})
    assert history.awaits_approval(entry, before=before) is after


@pytest.mark.parametrize("name", AMENDABLE)
def test_each_amendable_term_is_recorded_and_applied_in_both_directions(name: str) -> None:
    before = Terms(100, "GTC", "1", 1, {"price": {"above": "1"}}, AT)
    nothing: Any = {AMENDABLE[name]: None}
    after = replace(before, **nothing)
    details = history.amended(before.by_name(), after.by_name())
    assert details == {"amended": {name: {"from": before.by_name()[name], "to": None}}}
    entry: HistoryEntry = {**details, "sequence": 3, "status": Status.OPEN, "timestamp": AT}
    assert apply_amendment(before, entry, "to") == after
    assert apply_amendment(after, entry, "from") == before
    assert history.amended(before.by_name(), before.by_name()) == {"amended": {}}
    again = history.amended(before.by_name(), after.by_name(), needs_approval=True)
    assert again == {**details, "awaitingApproval": True}
