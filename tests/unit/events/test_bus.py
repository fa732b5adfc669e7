"""The bus: each commit of an instance reaches the feeds of every instance once."""

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.amounts import U64_MAX
from service.domain.history import Committed, accepted, opened
from service.domain.quote import Amounts
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import Fill, Seen, SeenCommitment
from service.events.bus import Bus
from service.events.feed import Feeds
from service.postgres.deployment import Deployment
from service.redis.link import RedisLink
from tests.support.clock import ManualClock
from tests.unit.events.test_feed import make, see

MODEST = settings(max_examples=30, deadline=None)

HERE, THERE = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"


DEPLOYMENT = "00000000-0000-4000-8000-00000000000d"


def deployment() -> Deployment:
    """Return a deployment whose id has been read."""
    known = Deployment("oee")
    known._id = DEPLOYMENT
    return known


def sent_by(sender: str, body: bytes) -> bytes:
    """Return a message of an instance of the deployment."""
    return DEPLOYMENT.encode() + sender.encode() + body


class BusHarness:
    """An instance's bus with a Redis link and feeds that only record."""

    def __init__(self, sender: str) -> None:
        self.sent: list[tuple[str | bytes, ...]] = []
        self.delivered: list[Committed] = []
        self.sightings: list[tuple[str, int, Seen | None]] = []
        self.bus = Bus(
            cast("RedisLink", self),
            cast("Feeds", self),
            ManualClock(),
            deployment=deployment(),
            sender=sender,
        )
        self.bus.on_seen(lambda *sighting: self.sightings.append(sighting))

    def require(self, _need: object) -> None:
        pass

    def send(self, *command: str | bytes) -> None:
        self.sent.append(command)

    def deliver(self, steps: list[Committed]) -> None:
        self.delivered.extend(steps)

    @property
    def message(self) -> bytes:
        [(_command, _channel, message)] = self.sent
        assert isinstance(message, bytes)
        return message


NOW = "2026-11-22T10:00:00.000000Z"
short_text = st.text(max_size=10)
entries = st.builds(
    lambda sequence, more: {**more, "sequence": sequence},
    st.integers(1, 100),
    st.dictionaries(short_text, short_text | st.integers(-(2**63), 2**64 - 1) | st.booleans(), max_size=4),
)
steps = st.builds(
    Committed,
    order_id=st.uuids().map(str),
    entry=entries,
    routing=st.none() | st.builds(RoutingRecord, st.lists(entries, max_size=2), st.none() | entries),
    quoted=st.none() | st.builds(Amounts, st.integers(1, 9 * U64_MAX), st.integers(1, 9 * U64_MAX)),
    fill=st.none() | st.builds(Fill, st.integers(1, U64_MAX), st.integers(1, U64_MAX), short_text),
    decimals_out=st.none() | st.integers(0, 12),
)
groups = st.lists(steps, max_size=4)


@MODEST
@given(groups)
def test_a_group_reaches_another_instance_unchanged(group: list[Committed]) -> None:
    here, there = BusHarness(HERE), BusHarness(THERE)
    here.bus.publish(group)
    there.bus.channel.handle(here.message)
    assert there.delivered == group


@MODEST
@given(groups)
def test_the_instances_own_feeds_get_each_step_directly_and_once(group: list[Committed]) -> None:
    here = BusHarness(HERE)
    here.bus.publish(group)
    here.bus.channel.handle(here.message)
    assert here.delivered == group


@MODEST
@given(
    st.uuids().map(str),
    st.integers(1, 1_000),
    st.none()
    | st.builds(
        Seen,
        st.integers(0, 2**63 - 1),
        st.sampled_from(SeenCommitment),
        st.none() | st.builds(Fill, st.integers(1, U64_MAX), st.integers(1, U64_MAX), short_text),
    ),
)
def test_a_sighting_arrives_on_every_instance_as_it_was(
    order_id: str, version: int, seen: Seen | None
) -> None:
    here, there = BusHarness(HERE), BusHarness(THERE)
    here.bus.publish_seen(order_id, version, seen)
    there.bus.channel.handle(here.message)
    assert here.sightings == there.sightings == [(order_id, version, seen)]
    assert here.delivered == there.delivered == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"{}", b'{"seen":null}', b'{"seen":["a",1]}', b'{"seen":["a","x",null]}', b'{"seen":["a",1,[1]]}'),
        *(b'{"seen":["a",1,[1,"rooted",null]]}', b'{"seen":["a",1,[null,"processed",null]]}'),
        b'{"seen":["a",1,[1,"processed",["x",1,"sig"]]]}',
    ],
)
def test_an_invalid_sighting_is_logged_and_dropped(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    there = BusHarness(THERE)
    there.bus.channel.handle(sent_by(HERE, body))
    assert there.sightings == []
    assert "malformed message" in caplog.text


def test_a_group_is_one_message_on_the_channel() -> None:
    here = BusHarness(HERE)
    here.bus.publish([Committed("a", accepted(NOW)), Committed("b", opened(NOW))])
    assert [command[:2] for command in here.sent] == [("PUBLISH", f"oee:{DEPLOYMENT}:steps")]


def test_a_message_of_another_deployment_is_dropped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    here, there = BusHarness(HERE), BusHarness(THERE)
    here.bus.publish([Committed("a", accepted(NOW))])
    there.bus.channel.handle(b"f" + here.message[1:])
    assert there.delivered == []
    assert "dropped a message of another deployment" in caplog.text


def test_an_amount_beyond_the_exact_range_of_a_double_arrives_exactly() -> None:
    here, there = BusHarness(HERE), BusHarness(THERE)
    fill = Fill(2**53 + 1, U64_MAX, "sig")
    here.bus.publish([Committed("a", accepted(NOW), fill=fill)])
    there.bus.channel.handle(here.message)
    assert there.delivered[0].fill == fill
    assert b"9007199254740993" in here.message


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"not json", b"\xff\xfe", b"1", b"null", b"{}x", b"[1]", b"[null]", b'["ab"]', b"[[]]"),
        *(b'[["a",{"sequence":1}]]', b'[["a",{},null,null,{},null]]'),
        *(b'[["a",{},null,null,["1","sig"],null]]', b'[["a",{},null,null,["x","1","sig"],null]]'),
        *(b'[["a",{},null,null,[null,1,"sig"],null]]', b'[["a",{},null,null,null,null,1]]'),
        *(b'[["a",{},null,[1],null,null]]', b'[["a",{},null,["x",1],null,null]]'),
        *(b'[["a",{},[[]],null,null,null]]', b'[["a",{},1,null,null,null]]'),
        b'[["a",{},["x",null,null],null,null,null]]',
    ],
)
def test_an_invalid_message_is_logged_and_dropped(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    there = BusHarness(THERE)
    there.bus.channel.handle(sent_by(HERE, body))
    assert there.delivered == []
    assert "malformed message" in caplog.text


@pytest.mark.parametrize(
    "body", [b'[["a",{},null,[]]]', b'[["a",{},null,["1"]]]', b'[["a",{},null,["1","1"]]]']
)
def test_a_message_with_an_incomplete_fill_is_dropped(body: bytes) -> None:
    there = BusHarness(THERE)
    there.bus.channel.handle(sent_by(HERE, body))
    assert there.delivered == []


@pytest.mark.parametrize("entry", [b"{}", b"1", b"null", b'{"sequence":"x"}'])
async def test_a_message_with_an_invalid_entry_is_dropped(entry: bytes) -> None:
    _, feeds = make(one=1)
    watcher = await see(feeds)
    bus = Bus(
        cast("RedisLink", BusHarness(THERE)), feeds, ManualClock(), deployment=deployment(), sender=THERE
    )
    try:
        bus.channel.handle(sent_by(HERE, b'[["one",' + entry + b",null,null]]"))
    finally:
        await watcher.leave()
