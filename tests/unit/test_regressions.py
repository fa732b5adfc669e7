"""Faults that were found once, each with what should have happened."""

import asyncio
import os
from pathlib import Path
from typing import cast
from unittest import mock

import pytest
from marshmallow import ValidationError
from service.api.problems import InvalidError
from service.api.specs import document
from service.events.bus import Bus
from service.postgres.batch import Batcher
from service.postgres.database import UnavailableError
from service.redis.link import RedisLink
from service.settings import InvalidSettingError, load

from tests.support.clock import ManualClock, settle
from tests.unit.test_batch import Statement, submit
from tests.unit.test_batch import make as make_batcher
from tests.unit.test_bus import HERE, THERE, Instance, deployment, sent_by
from tests.unit.test_feed import STEPS, make, see
from tests.unit.test_openapi import NEW, is_valid
from tests.unit.test_sweep import World


async def test_nothing_is_kept_of_watchers_that_left_while_another_stays() -> None:
    _, feeds = make(one=1)
    stays = await see(feeds)
    for _ in range(100):
        await (await see(feeds)).leave()
    kept = len(feeds._watched["one"]._changed)
    await stays.leave()
    assert kept == 1


@pytest.mark.parametrize(
    "body", [b'[["a",{},null,[]]]', b'[["a",{},null,["1"]]]', b'[["a",{},null,["1","1"]]]']
)
def test_a_message_with_half_a_fill_is_dropped(body: bytes) -> None:
    there = Instance(THERE)
    there.bus.channel.take(sent_by(HERE, body))
    assert there.taken == []


@pytest.mark.parametrize("entry", [b"{}", b"1", b"null", b'{"sequence":"x"}'])
async def test_a_message_whose_entry_is_no_entry_is_dropped(entry: bytes) -> None:
    _, feeds = make(one=1)
    watcher = await see(feeds)
    bus = Bus(cast("RedisLink", Instance(THERE)), feeds, ManualClock(), deployment=deployment(), sender=THERE)
    try:
        bus.channel.take(sent_by(HERE, b'[["one",' + entry + b",null,null]]"))
    finally:
        await watcher.leave()


async def test_early_steps_that_come_out_of_order_are_all_seen() -> None:
    stored, feeds = make(one=1)
    stored.free.clear()
    seeing = asyncio.create_task(see(feeds))
    await settle()
    stored.stored["one"] = 3
    feeds.take([STEPS[2], STEPS[1]])
    stored.free.set()
    watcher = await seeing
    seen = list(watcher.seen)
    await watcher.leave()
    assert seen == [1, 2, 3]


async def test_a_gap_found_while_another_is_being_read_is_filled() -> None:
    stored, feeds = make(one=1)
    watcher = await see(feeds)
    stored.free.clear()
    stored.stored["one"] = 3
    feeds.take([STEPS[2]])
    await settle()
    stored.stored["one"] = 5
    feeds.take([STEPS[4]])
    await settle()
    stored.free.set()
    await settle()
    seen = list(watcher.seen)
    await watcher.leave()
    assert seen == [1, 2, 3, 4, 5]


async def test_a_wake_all_outlives_an_absence_of_postgresql() -> None:
    world = World()
    await world.start()
    world.instances.away = True
    world.sweep.wake_all()
    await settle()
    world.instances.away = False
    asked = await world.after(1) + await world.after(1)
    await world.sweep.stop()
    assert "wake again" in asked


@pytest.mark.parametrize("client_id", ["a b", "x" * 65])
def test_the_document_refuses_the_client_order_ids_that_the_service_refuses(client_id: str) -> None:
    assert not is_valid("NewOrder", {**NEW, "clientOrderId": client_id})


def test_the_documents_patterns_are_anchored_and_in_ecma_262() -> None:
    pattern = document()["components"]["schemas"]["NewOrder"]["properties"]["clientOrderId"]["pattern"]
    assert pattern == r"^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$"


@pytest.mark.parametrize(
    ("name", "pointer"), [("a b", "#/a%20b"), ("50%", "#/50%25"), ("é", "#/%C3%A9"), ('"', "#/%22")]
)
def test_a_pointer_is_a_uri_fragment(name: str, pointer: str) -> None:
    [error] = InvalidError.of(ValidationError({name: ["No."]})).errors or []
    assert error["pointer"] == pointer


async def test_those_who_gave_up_hold_no_place_in_the_queue() -> None:
    statement = Statement()
    batcher = make_batcher(statement, ManualClock(), limit=1)
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


async def test_a_statement_that_answers_too_few_fails_its_callers_rather_than_hang_them() -> None:
    async def run(_items: list[str]) -> list[str]:
        return []

    batcher = Batcher(run, clock=ManualClock(), name="t", key=lambda item: item, largest=5)
    answer = asyncio.create_task(batcher.submit("a"))
    await settle()
    assert answer.done()


def test_a_home_that_does_not_exist_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        mock.patch.dict(os.environ, {"DATA_DIR": "~nosuchuser/x"}),
        pytest.raises(InvalidSettingError, match="DATA_DIR"),
    ):
        load()


def test_an_env_file_that_is_not_utf_8_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"HOST=\xff\n")
    with mock.patch.dict(os.environ), pytest.raises(InvalidSettingError):
        load()


def test_the_document_lists_itself() -> None:
    assert "/openapi.json" in document()["paths"]
