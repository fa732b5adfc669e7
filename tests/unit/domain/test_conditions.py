"""Sniper conditions: parsed strictly, compared exactly; and the market data that they use."""

from collections import deque
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.amm import Ratio
from service.chains.venue import PoolRef, PoolView
from service.domain.condition_parser import ConditionError, parse_conditions, refuse_impossible
from service.domain.conditions import Kind, Opened, PairFacts, holds, unmet
from service.domain.quote import Dex
from service.triggers.facts import PairPools, VolumeTape, facts_of

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
ACCEPTED = 1_800_000_000.0

EVERYTHING: dict[str, Any] = {
    "poolCreated": {"venue": "meteora"},
    "minLiquidity": {"amount": "50000", "unit": "usd"},
    "price": {"above": "1.5", "below": "2"},
    "volume": {"amount": "1000", "seconds": 60},
    "timeWindow": {"notBefore": "2027-01-15T12:00:00Z", "notAfter": "2027-01-15T14:00:00.5+01:00"},
}


def facts(**changes: Any) -> PairFacts:
    """Return facts of a pair with 9 and 6 decimals that just meet ``EVERYTHING``."""
    given: dict[str, Any] = {
        "decimals_in": 9,
        "decimals_out": 6,
        "price": (1_600, 1_000_000),  # 1.6 in display units
        "liquidity_out": 30_000 * 10**6,
        "liquidity_usd": (50_000 * 10**6, 1),
        "newest": {Dex.METEORA: Opened(ACCEPTED, "new"), Dex.RAYDIUM: Opened(0, "old")},
        "volume_out": {60: 1_000 * 10**6}.__getitem__,
    }
    return PairFacts(**(given | changes))


def met(data: dict[str, Any], now: datetime = NOW, **changes: Any) -> bool:
    return holds(parse_conditions(data, None), facts(**changes), ACCEPTED, now)


def test_all_conditions_must_hold() -> None:
    conditions = parse_conditions(EVERYTHING, NOW)
    assert holds(conditions, facts(), ACCEPTED, NOW)
    assert conditions.not_before == NOW
    assert conditions.expires_at == NOW + timedelta(hours=1, seconds=0.5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.POOL_CREATED, {"newest": {Dex.METEORA: Opened(ACCEPTED - 0.4, "new")}}),
        (Kind.POOL_CREATED, {"newest": {Dex.RAYDIUM: Opened(ACCEPTED + 9, "new")}}),
        (Kind.MIN_LIQUIDITY, {"liquidity_usd": (50_000 * 10**6 - 1, 1)}),
        (Kind.MIN_LIQUIDITY, {"liquidity_usd": (50_000 * 10**6 * 3 - 1, 3)}),
        (Kind.MIN_LIQUIDITY, {"liquidity_usd": None}),
        (Kind.PRICE, {"price": (1_500, 1_000_000)}),
        (Kind.PRICE, {"price": (2_000, 1_000_000)}),
        (Kind.PRICE, {"price": None}),
        (Kind.VOLUME, {"volume_out": {60: 1_000 * 10**6 - 1}.__getitem__}),
    ],
)
def test_a_condition_missed_by_one_unit_does_not_hold(kind: Kind, changes: dict[str, Any]) -> None:
    conditions = parse_conditions(EVERYTHING, NOW)
    assert unmet(conditions, facts(**changes), ACCEPTED, NOW) is kind
    assert not holds(conditions, facts(**changes), ACCEPTED, NOW)


def test_the_time_window_is_checked_first_and_excludes_its_end() -> None:
    conditions = parse_conditions(EVERYTHING, NOW)
    moment = timedelta(microseconds=1)
    assert unmet(conditions, facts(price=None), ACCEPTED, NOW - moment) is Kind.TIME_WINDOW
    end = NOW + timedelta(hours=1, seconds=0.5)
    assert holds(conditions, facts(), ACCEPTED, end - moment)
    assert unmet(conditions, facts(), ACCEPTED, end) is Kind.TIME_WINDOW


def test_a_single_condition_requires_nothing_else() -> None:
    nothing: dict[str, Any] = {"price": None, "liquidity_usd": None, "liquidity_out": 0, "newest": {}}
    assert met({"timeWindow": {"notBefore": "2027-01-15T12:00:00Z"}}, **nothing)
    assert met({"timeWindow": {"notAfter": "2027-01-15T12:00:01Z"}}, **nothing)
    assert met({"poolCreated": {"venue": "any"}}, newest={Dex.RAYDIUM: Opened(ACCEPTED + 1, "x")})
    assert met({"price": {"above": "1.59"}})
    assert not met({"price": {"above": "1.6"}})
    assert met({"price": {"below": "1.60000000000000000000000001"}})
    assert not met({"price": {"below": "1.6"}})
    assert met({"minLiquidity": {"amount": "30000"}})
    assert not met({"minLiquidity": {"amount": "30000.000000000001"}})
    assert not met(
        {"minLiquidity": {"amount": "30000", "unit": "tokenOut"}}, liquidity_out=30_000 * 10**6 - 1
    )


def path_to(where: str) -> tuple[str, ...]:
    """Return the path of a text with slashes."""
    return tuple(where.split("/")) if where else ()


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return ``EVERYTHING`` with a value at a path."""
    data: dict[str, Any] = orjson.loads(orjson.dumps(EVERYTHING))
    *parents, name = path.split("/")
    place = data
    for parent in parents:
        place = place[parent]
    place[name] = value
    return data


@pytest.mark.parametrize("data", [None, [], "x", 1, True, {}])
def test_conditions_are_an_object_with_at_least_one_member(data: Any) -> None:
    with pytest.raises(ConditionError) as failure:
        parse_conditions(data, NOW)
    assert failure.value.path == ()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("data", [[], "x", 1])
def test_each_condition_is_an_object(kind: Kind, data: Any) -> None:
    with pytest.raises(ConditionError) as failure:
        parse_conditions({kind: data}, NOW)
    assert failure.value.path == (kind,)


@pytest.mark.parametrize(
    ("data", "where", "detail"),
    [
        (dict.fromkeys(Kind), "", "Must have at least one of"),
        ({"price": {}}, "price", "Must have at least one of above, below."),
        ({"price": {"above": None}}, "price", "Must have at least one of above, below."),
        ({"timeWindow": {"notBefore": None, "notAfter": None}}, "timeWindow", "Must have at least one of"),
        ({"poolCreated": {}}, "poolCreated/venue", "Missing data"),
        ({"poolCreated": {"venue": None}}, "poolCreated/venue", "Missing data"),
        ({"minLiquidity": {"amount": None}}, "minLiquidity/amount", "Missing data"),
        ({"volume": {"amount": "1", "seconds": None}}, "volume/seconds", "Missing data"),
        ({"volume": {"amount": None, "seconds": 1}}, "volume/amount", "Missing data"),
        ({"surprise": None}, "surprise", "Unknown field."),
    ],
)
def test_null_is_the_same_as_omitted(data: Any, where: str, detail: str) -> None:
    with pytest.raises(ConditionError) as failure:
        parse_conditions(data, NOW)
    assert failure.value.path == path_to(where)
    assert failure.value.detail.startswith(detail)


def test_optional_members_may_be_null() -> None:
    with_nulls = {
        "price": {"above": "1", "below": None},
        "minLiquidity": {"amount": "1", "unit": None},
        "timeWindow": {"notBefore": None, "notAfter": "2027-01-15T13:00:00Z"},
        "poolCreated": None,
        "volume": None,
    }
    without = {
        "price": {"above": "1"},
        "minLiquidity": {"amount": "1"},
        "timeWindow": {"notAfter": "2027-01-15T13:00:00Z"},
    }
    assert parse_conditions(with_nulls, NOW) == parse_conditions(without, NOW)


MOST = 2**64 - 1
IMPOSSIBLE: list[tuple[Any, str]] = [
    ({"minLiquidity": {"amount": "1" + "0" * 40}}, "minLiquidity/amount"),
    ({"minLiquidity": {"amount": "18446744073709.551616"}}, "minLiquidity/amount"),
    ({"minLiquidity": {"amount": "18446744073709.551616", "unit": "usd"}}, "minLiquidity/amount"),
    ({"volume": {"amount": "18446744073709.551616", "seconds": 60}}, "volume/amount"),
    ({"price": {"above": "18446744073709551615000"}}, "price/above"),
    ({"price": {"below": "0." + "0" * 16 + "54"}}, "price/below"),
]
POSSIBLE: list[Any] = [
    {"minLiquidity": {"amount": "18446744073709.551615"}},
    {"minLiquidity": {"amount": "18446744073709.551615", "unit": "usd"}},
    {"volume": {"amount": "18446744073709.551615", "seconds": 60}},
    {"price": {"above": "18446744073709551614999"}},
    {"price": {"below": "0." + "0" * 16 + "55"}},
]


@pytest.mark.parametrize(("data", "where"), IMPOSSIBLE)
def test_a_condition_that_no_market_can_meet_is_rejected(data: Any, where: str) -> None:
    with pytest.raises(ConditionError) as failure:
        refuse_impossible(parse_conditions(data, NOW), 9, 6)
    assert failure.value.path == path_to(where)


@pytest.mark.parametrize("data", POSSIBLE)
def test_a_condition_that_a_market_can_just_meet_is_accepted(data: Any) -> None:
    refuse_impossible(parse_conditions(data, NOW), 9, 6)


@pytest.mark.parametrize(("data", "where"), IMPOSSIBLE)
def test_a_token_that_is_not_listed_may_have_any_decimals(data: Any, where: str) -> None:
    parsed = parse_conditions(data, NOW)
    if data in ({"minLiquidity": {"amount": "1" + "0" * 40}}, IMPOSSIBLE[2][0]):
        with pytest.raises(ConditionError, match=where):
            refuse_impossible(parsed, 9, None)
    else:
        refuse_impossible(parsed, 9, None)
    with pytest.raises(ConditionError, match="price/above"):
        refuse_impossible(parse_conditions({"price": {"above": f"{MOST}" + "0" * 9}}, NOW), 9, None)
    with pytest.raises(ConditionError, match="price/below"):
        refuse_impossible(parse_conditions({"price": {"below": "0." + "0" * 29 + "5"}}, NOW), 9, None)


BAD_NUMBERS: list[Any] = [
    1,
    1.5,
    True,
    [],
    "0",
    "0.0",
    "-1",
    "1e3",
    "NaN",
    "Infinity",
    "",
    "1" * 65,
    "1 ",
    "\u0661",
]
NUMBERS = ["minLiquidity/amount", "price/above", "price/below", "volume/amount"]
BAD_TIMES: list[Any] = [
    1_800_000_000,
    "2027-01-15",
    "2027-01-15T12:00:00",
    "2027-01-15 12:00:00Z",
    "2027-01-15t12:00:00z",
    "20270115T120000Z",
    "2027-02-30T12:00:00Z",
    "2027-01-15T24:00:00Z",
    "2027-01-15T12:00:60Z",
    "2027-01-15T12:00:00+25:00",
    "9999-12-31T23:59:59-01:00",
    "0001-01-01T00:00:00+01:00",
    "2027-01-15T12:00:00Z\n",
]


BAD_VENUES: list[Any] = [None, 1, "", "orca", "Raydium", ["raydium"], {}]
BAD_UNITS: list[Any] = [1, "USD", "tokenIn", []]
BAD_SECONDS: list[Any] = [None, 0, -1, 3_601, 1.0, "60", True, float("nan")]
INVALID: list[tuple[str, Any]] = [
    *((path, value) for path in NUMBERS for value in BAD_NUMBERS),
    *((f"timeWindow/{name}", value) for name in ("notBefore", "notAfter") for value in BAD_TIMES),
    *(("poolCreated/venue", value) for value in BAD_VENUES),
    *(("minLiquidity/unit", value) for value in BAD_UNITS),
    *(("volume/seconds", value) for value in BAD_SECONDS),
    ("price/below", "1.5"),
    ("price/below", "1.49"),
    ("timeWindow/notAfter", "2027-01-15T12:00:00Z"),
    ("timeWindow/notAfter", "2027-01-15T11:59:59Z"),
    ("surprise", {}),
    ("price/over", "1"),
    ("poolCreated/dex", "raydium"),
]


@pytest.mark.parametrize(("where", "value"), INVALID)
def test_an_invalid_value_is_rejected_with_its_path(where: str, value: Any) -> None:
    with pytest.raises(ConditionError) as failure:
        parse_conditions(changed(where, value), NOW)
    assert failure.value.path == path_to(where)
    assert failure.value.detail.endswith(".")


@pytest.mark.parametrize(
    "path", ["poolCreated/venue", "minLiquidity/amount", "volume/amount", "volume/seconds"]
)
def test_a_missing_required_member_is_reported(path: str) -> None:
    kind, name = path.split("/")
    given = {key: value for key, value in EVERYTHING[kind].items() if key != name} or {"x": 1}
    with pytest.raises(ConditionError) as failure:
        parse_conditions({kind: given}, NOW)
    assert failure.value.path[0] == kind


@pytest.mark.parametrize("name", ["a/b~c", ""])
def test_an_unusual_name_is_in_the_path_unchanged(name: str) -> None:
    with pytest.raises(ConditionError) as failure:
        parse_conditions({name: {}}, NOW)
    assert failure.value.path == (name,)


def test_a_window_must_end_in_the_future_unless_it_is_stored() -> None:
    over = {"timeWindow": {"notAfter": "2027-01-15T12:00:00Z"}}
    with pytest.raises(ConditionError):
        parse_conditions(over, NOW)
    assert parse_conditions(over, None).expires_at == NOW
    assert parse_conditions(over, NOW - timedelta(seconds=1)).expires_at == NOW


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("aZ1.-:~/\u0661", max_size=8)
    | st.sampled_from(["1", "any"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["venue", "amount", "seconds", "above", "notAfter", "x"]), inner)
    ),
)


@given(st.dictionaries(st.sampled_from([*Kind, "x"]), anything))
def test_any_value_is_parsed_or_rejected(data: dict[str, Any]) -> None:
    try:
        parsed = parse_conditions(data, NOW)
    except ConditionError:
        return
    unmet(parsed, facts(volume_out=lambda _seconds: 0), ACCEPTED, NOW)


def view(pool_id: str, pair: tuple[str, str], amounts: tuple[int, int], opened_at: float = 0) -> PoolView:
    dex = Dex(pool_id.split(":", maxsplit=1)[0])
    return PoolView(PoolRef(pool_id, dex, *pair), "program", *amounts, None, opened_at)


def test_facts_use_the_direct_pools_in_either_order_of_tokens() -> None:
    tapes = {"raydium:1": VolumeTape(), "meteora:1": VolumeTape(), "raydium:2": VolumeTape()}
    for tape, volume in zip(tapes.values(), (7, 70, 700), strict=True):
        tape.add(1_000, volume, 11 * volume)
    pools = PairPools(
        "SOL",
        "NEW",
        9,
        6,
        [
            view("raydium:1", ("SOL", "NEW"), (100, 2_000), 5),
            view("meteora:1", ("NEW", "SOL"), (3_000, 50), 8),
            view("meteora:2", ("SOL", "NEW"), (1, 1), 9),
            view("raydium:2", ("SOL", "USDC"), (10**9, 10**9), 99),
        ],
        tapes,
    )
    made = facts_of(pools, Ratio(20, 1), Ratio(3, 2), 1_000)
    assert made.price == (20, 1)
    assert made.liquidity_out == 2_000 + 3_000 + 1
    assert made.liquidity_usd == (2 * (100 + 50 + 1) * 3, 2)
    assert made.newest == {Dex.RAYDIUM: (5, "raydium:1"), Dex.METEORA: (9, "meteora:2")}
    assert made.volume_out(60) == 11 * 7 + 70
    assert facts_of(pools, None, None, 1_000).liquidity_usd is None


def test_usdc_is_valued_at_one_dollar() -> None:
    pools = PairPools("USDC", "NEW", 6, 6, [view("raydium:1", ("NEW", "USDC"), (5, 70))], {})
    made = facts_of(pools, None, None, 0)
    assert made.liquidity_usd == (140, 1)
    assert made.volume_out(60) == 0


def test_a_pair_without_pools_has_facts() -> None:
    made = facts_of(PairPools("SOL", "NEW", 9, 0, [], {}), None, None, 0)
    assert (made.price, made.liquidity_out, made.liquidity_usd, made.newest) == (None, 0, None, {})


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100), st.integers(0, 100)), max_size=60), st.data()
)
def test_a_window_is_the_sum_of_its_seconds(trades: list[tuple[int, int, int]], data: st.DataObject) -> None:
    tape, kept, second = VolumeTape(), [], 1_000
    for pause, volume_a, volume_b in trades:
        second += pause
        tape.add(second, volume_a, volume_b)
        kept.append((second, volume_a, volume_b))
        seconds = data.draw(st.integers(1, 3_600))
        now = second + data.draw(st.integers(0, 4_000))
        window = [(a, b) for at, a, b in kept if at >= now - seconds]
        assert tape.total(seconds, now) == (sum(a for a, _ in window), sum(b for _, b in window))


def test_a_late_trade_counts_when_it_arrives() -> None:
    tape = VolumeTape()
    tape.add(100, 1, 1)
    tape.add(90, 2, 2)
    assert tape.total(5, 100) == (3, 3)


def test_a_tape_stays_short_and_keeps_the_last_hour() -> None:
    tape, draw = VolumeTape(), Random(1)
    second, hour = 0, deque[int]()
    for _ in range(30_000):
        second += draw.choice((0, 1, 1, 1, 2))
        tape.add(second, 1, 2)
        hour.append(second)
        while hour[0] < second - 3_600:
            hour.popleft()
        assert len(tape) <= 2 * 3_601 + 1
        assert tape.total(3_600, second) == (len(hour), 2 * len(hour))
