"""The batcher: grouping of items into statements, and each caller's result in every case."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.postgres.batch import Batcher, QueueFullError
from service.postgres.database import UnavailableError
from tests.support.clock import ManualClock, settle

MODEST = settings(max_examples=50, deadline=None)


class Statement:
    """A statement with results that the test sets; the next runs raise ``faults``, in order.

    An item is written as its key and a number: ``a1``. While the statement is not ``free``, a run waits.
    """

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.faults: list[Exception] = []
        self.refused: set[str] = set()
        self.refusal: Exception = psycopg2.IntegrityError("a row is refused")
        self.wrong: dict[str, Exception] = {}
        self.free = asyncio.Event()
        self.free.set()

    async def run(self, items: list[str]) -> Sequence[str | Exception]:
        self.groups.append(list(items))
        await self.free.wait()
        if self.faults:
            raise self.faults.pop(0)
        if self.refused & set(items):
            raise self.refusal
        return [self.wrong.get(item) or f"{item} done" for item in items]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def statement() -> Statement:
    return Statement()


@pytest.fixture
def batcher(statement: Statement, clock: ManualClock) -> Batcher[str, str]:
    return make(statement, clock)


def make(statement: Statement, clock: ManualClock, *, largest: int = 10, **options: Any) -> Batcher[str, str]:
    return Batcher(
        statement.run, clock=clock, name="test", key=lambda item: item[0], largest=largest, **options
    )


def submit(batcher: Batcher[str, str], *items: str) -> asyncio.Future[list[str | BaseException]]:
    return asyncio.gather(*map(batcher.submit, items), return_exceptions=True)


def away(*, unknown: bool) -> UnavailableError:
    return UnavailableError("away", unknown=unknown)


async def test_items_submitted_in_one_iteration_of_the_loop_form_one_group(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    assert await submit(batcher, "a1", "b1", "c1") == ["a1 done", "b1 done", "c1 done"]
    assert statement.groups == [["a1", "b1", "c1"]]


async def test_items_submitted_during_a_statement_go_into_the_next(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    statement.free.clear()
    first = submit(batcher, "a1")
    await settle()
    rest = [submit(batcher, "b1"), submit(batcher, "c1")]
    statement.free.set()
    await asyncio.gather(first, *rest)
    assert statement.groups == [["a1"], ["b1", "c1"]]


@MODEST
@given(
    st.lists(st.sampled_from([f"{key}{number}" for key in "abc" for number in range(9)]), unique=True),
    st.integers(1, 5),
)
def test_groups_are_bounded_have_unique_keys_and_keep_the_order_of_each_key(
    items: list[str], largest: int
) -> None:
    async def run() -> Statement:
        statement = Statement()
        results = await submit(make(statement, ManualClock(), largest=largest), *items)
        assert results == [f"{item} done" for item in items]
        return statement

    groups = asyncio.run(run()).groups
    assert Counter(item for group in groups for item in group) == Counter(items)
    assert all(len(group) <= largest for group in groups)
    assert all(len({item[0] for item in group}) == len(group) for group in groups)
    for key in "abc":
        assert [i for group in groups for i in group if i[0] == key] == [i for i in items if i[0] == key]


async def test_each_caller_gets_its_own_result_or_its_own_error(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    statement.wrong["b1"] = error = LookupError("only b")
    assert await submit(batcher, "a1", "b1", "c1") == ["a1 done", error, "c1 done"]


@pytest.mark.parametrize(
    "refusal", [psycopg2.IntegrityError("a row is refused"), TypeError("a value cannot be written")]
)
async def test_a_bad_row_does_not_fail_its_neighbours(
    batcher: Batcher[str, str], statement: Statement, refusal: Exception
) -> None:
    statement.refusal = refusal
    statement.refused = {"b1"}
    a, b, c = await submit(batcher, "a1", "b1", "c1")
    assert (a, c) == ("a1 done", "c1 done")
    assert b is statement.refusal


async def test_an_unexpected_error_is_raised_to_its_caller_and_stops_nothing(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    statement.faults = [error := ZeroDivisionError()]
    assert await submit(batcher, "a1") == [error]
    assert await batcher.submit("c1") == "c1 done"


@pytest.mark.parametrize("unknown", [True, False])
async def test_a_patient_batcher_retries_with_growing_pauses_until_it_succeeds(
    batcher: Batcher[str, str], statement: Statement, clock: ManualClock, unknown: bool
) -> None:
    statement.faults = [away(unknown=unknown) for _ in range(7)]
    results = submit(batcher, "a1", "b1")
    await clock.advance(10)
    assert await results == ["a1 done", "b1 done"]
    assert statement.groups == [["a1", "b1"]] * 8
    assert clock.sleeps_s == [0.05, 0.1, 0.2, 0.25, 0.25, 0.25, 0.25]


async def test_an_impatient_batcher_reports_an_outage_of_postgresql_at_once(
    statement: Statement, clock: ManualClock
) -> None:
    batcher = make(statement, clock, patient=False)
    statement.faults = [error := away(unknown=True)]
    assert await submit(batcher, "a1", "b1") == [error, error]
    assert clock.sleeps_s == []
    assert await batcher.submit("a1") == "a1 done"


async def test_an_item_cancelled_before_it_was_sent_is_never_sent(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    statement.free.clear()
    first = submit(batcher, "a1")
    await settle()
    with pytest.raises(UnavailableError) as told:
        await batcher.submit("b1", timeout_s=0)
    assert not told.value.unknown
    statement.free.set()
    await first
    await batcher.stop()
    assert statement.groups == [["a1"]]


async def test_an_item_cancelled_between_two_unsent_attempts_is_never_sent(
    batcher: Batcher[str, str], statement: Statement, clock: ManualClock
) -> None:
    statement.faults = [away(unknown=False)]
    with pytest.raises(UnavailableError) as told:
        await batcher.submit("a1", timeout_s=0)
    assert not told.value.unknown
    await clock.advance(1)
    assert statement.groups == [["a1"]]


async def test_an_item_cancelled_during_its_statement_may_have_been_written(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    statement.free.clear()
    with pytest.raises(UnavailableError) as told:
        await batcher.submit("a1", timeout_s=0)
    assert told.value.unknown
    statement.free.set()


async def test_an_item_cancelled_after_a_lost_response_may_have_been_written_and_is_repeated(
    batcher: Batcher[str, str], statement: Statement, clock: ManualClock
) -> None:
    statement.faults = [away(unknown=True), away(unknown=False)]
    with pytest.raises(UnavailableError) as told:
        await batcher.submit("a1", timeout_s=0)
    assert told.value.unknown
    await clock.advance(1)
    assert statement.groups == [["a1"]] * 3


async def test_an_item_cancelled_before_its_statement_proved_unsent_is_not_sent_again(
    batcher: Batcher[str, str], statement: Statement, clock: ManualClock
) -> None:
    statement.free.clear()
    statement.faults = [away(unknown=False)]
    other = submit(batcher, "b1")
    with pytest.raises(UnavailableError):
        await batcher.submit("a1", timeout_s=0)
    statement.free.set()
    await clock.advance(1)
    assert await other == ["b1 done"]
    assert statement.groups == [["a1", "b1"], ["b1"]]


async def test_an_item_over_the_limit_is_rejected_and_never_sent(
    statement: Statement, clock: ManualClock
) -> None:
    batcher = make(statement, clock, limit=2)
    statement.free.clear()
    sent = submit(batcher, "a1")
    await settle()
    waiting = submit(batcher, "b1", "c1")
    await settle()
    with pytest.raises(QueueFullError):
        await batcher.submit("d1")
    statement.free.set()
    assert await waiting == ["b1 done", "c1 done"]
    await sent
    assert await batcher.submit("e1") == "e1 done"
    assert statement.groups == [["a1"], ["b1", "c1"], ["e1"]]


async def test_a_stop_waits_for_pending_items_and_only_for_them(
    batcher: Batcher[str, str], statement: Statement
) -> None:
    await batcher.stop()
    statement.free.clear()
    results = submit(batcher, "a1", "a2", "b1")
    await settle()
    stopped = asyncio.create_task(batcher.stop())
    await settle()
    assert not stopped.done()
    statement.free.set()
    await stopped
    assert await results == ["a1 done", "a2 done", "b1 done"]
    assert statement.groups == [["a1", "b1"], ["a2"]]


async def test_cancelled_callers_do_not_count_against_the_limit() -> None:
    statement = Statement()
    batcher = make(statement, ManualClock(), limit=1)
    statement.free.clear()
    first = submit(batcher, "a1")
    await settle()
    with pytest.raises(UnavailableError):
        await batcher.submit("b1", timeout_s=0)
    third = submit(batcher, "c1")
    await settle()
    statement.free.set()
    await first
    assert await third == ["c1 done"]


async def test_a_statement_with_too_few_results_fails_its_callers() -> None:
    async def run(_items: list[str]) -> list[str]:
        return []

    batcher = Batcher(run, clock=ManualClock(), name="t", key=lambda item: item, largest=5)
    answer = asyncio.create_task(batcher.submit("a"))
    await settle()
    assert answer.done()
