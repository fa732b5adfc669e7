"""The deliverer's loop: what it claims, what it records, what a stop leaves."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from service.domain.order import Order
from service.domain.webhook import WebhookAnswer, WebhookDelivery
from service.postgres.database import UnavailableError
from service.store.orders import Orders
from service.store.webhook_endpoints import WebhookEndpoints
from service.store.webhook_outbox import DeliveryResult, EndpointChange, WebhookOutbox
from service.turns import Steps
from service.webhooks.deliverer import WebhookDeliverer
from service.webhooks.sender import WebhookSender
from tests.support.clock import ManualClock, settle

NO_CHANGE = EndpointChange("endpoint", suspended=False, recovered=False, gone=False, failure=None)


def delivery(order_id: str = "order", sequence: int = 1, attempts: int = 0) -> WebhookDelivery:
    return WebhookDelivery("endpoint", "desk", order_id, sequence, attempts, "https://example.com/", (b"x",))


class FakeOutbox:
    """Hands out deliveries, and keeps their results."""

    def __init__(self) -> None:
        self.endpoints = True
        self.due: list[WebhookDelivery] = []
        self.claims: list[dict[tuple[str, str], int]] = []
        self.limits: list[tuple[int, int]] = []
        self.results: list[DeliveryResult] = []
        self.change: EndpointChange | None = None
        self.given_up: list[dict[str, int]] = []
        self.unavailable = False

    async def has_endpoints(self) -> bool:
        return self.endpoints

    async def claim(
        self, sending: Mapping[tuple[str, str], int], *, per_endpoint: int, per_account: int, most: int
    ) -> list[WebhookDelivery]:
        assert per_endpoint <= per_account or sending
        if self.unavailable:
            raise UnavailableError("away", unknown=False)
        self.claims.append(dict(sending))
        self.limits.append((per_account, most))
        claimed, self.due = self.due[:most], self.due[most:]
        return claimed

    async def settle(self, result: DeliveryResult) -> EndpointChange | None:
        self.results.append(result)
        return self.change

    async def give_up_old(self) -> dict[str, int]:
        return self.given_up.pop(0) if self.given_up else {}

    async def stop(self) -> None:
        pass


class FakeSender:
    """Answers as told, once it is let."""

    def __init__(self) -> None:
        self.answers: list[WebhookAnswer | Exception] = []
        self.posted: list[str] = []
        self.let = asyncio.Event()
        self.let.set()

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def post(self, _url: str, _secrets: object, message_id: str, _body: bytes) -> WebhookAnswer:
        self.posted.append(message_id)
        await self.let.wait()
        answer = self.answers.pop(0) if self.answers else WebhookAnswer()
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeOrders:
    """Has every order, unless PostgreSQL is away."""

    unavailable = False

    async def get_whole(self, order_id: str) -> Order | None:
        if self.unavailable:
            raise UnavailableError("away", unknown=False)
        return cast("Order", order_id) if order_id != "none" else None


class FakeEndpoints:
    """Records what is hastened."""

    def __init__(self) -> None:
        self.hastened: list[str] = []

    async def hasten(self, endpoint_id: str) -> None:
        self.hastened.append(endpoint_id)

    async def drop_orphans(self) -> int:
        return 0


def write(order: Order, sequence: int) -> Steps[bytes]:
    yield
    return f"{order} {sequence}".encode()


class DelivererRig:
    """A deliverer without servers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.outbox, self.sender = FakeOutbox(), FakeSender()
        self.orders, self.endpoints = FakeOrders(), FakeEndpoints()
        self.deliverer = WebhookDeliverer(
            cast("WebhookOutbox", self.outbox),
            cast("WebhookEndpoints", self.endpoints),
            cast("Orders", self.orders),
            cast("WebhookSender", self.sender),
            write,
            self.clock,
            retry_base_ms=1_000,
        )

    async def run(self, *due: WebhookDelivery) -> None:
        """Have deliveries claimed."""
        self.outbox.due += due
        self.deliverer.announce()
        await self.clock.advance(0.05)


@pytest.fixture
async def rig() -> DelivererRig:
    rig = DelivererRig()
    rig.deliverer.start()
    await settle()
    return rig


async def test_what_is_due_is_sent_and_recorded(rig: DelivererRig) -> None:
    await rig.run(delivery("a"), delivery("b", 3))
    assert rig.sender.posted == ["msg_a_1", "msg_b_3"]
    assert rig.outbox.results == [
        DeliveryResult(delivery("a"), delivered=True),
        DeliveryResult(delivery("b", 3), delivered=True),
    ]
    await rig.deliverer.stop()


async def test_what_is_being_sent_counts(rig: DelivererRig) -> None:
    rig.sender.let.clear()
    await rig.run(delivery("a"), delivery("b"))
    await rig.run(delivery("c"))
    assert {("desk", "endpoint"): 2} in rig.outbox.claims
    rig.sender.let.set()
    await rig.run()
    assert len(rig.outbox.results) == 3
    await rig.run()
    assert rig.outbox.claims[-1] == {}
    await rig.deliverer.stop()


async def test_what_does_not_answer_leaves_places_free(rig: DelivererRig) -> None:
    rig.sender.let.clear()
    assert rig.outbox.limits[-1] == (64, 128)
    await rig.run(*(delivery(str(number)) for number in range(1_000)))
    for _ in range(20):
        await rig.run()
        (per_account, most), sending = rig.outbox.limits[-1], rig.outbox.claims[-1]
        free = 256 - sum(sending.values())
        assert (per_account, most) == (max(free // 4, 1), max(free // 2, 1))
        assert most < free or free == 1
    await rig.deliverer.stop()


@pytest.mark.parametrize("attempts", [0, 1, 5])
async def test_a_failure_is_repeated_after_a_time_that_doubles(rig: DelivererRig, attempts: int) -> None:
    rig.sender.answers = [WebhookAnswer("It answered 503.", pause_s=2.5)]
    await rig.run(delivery(attempts=attempts))
    [result] = rig.outbox.results
    assert (result.delivered, result.failure, result.pause_ms) == (False, "It answered 503.", 2_500)
    assert result.retry_in_ms is not None
    assert 500 * 2**attempts <= result.retry_in_ms <= 1_000 * 2**attempts
    await rig.deliverer.stop()


async def test_an_internal_error_is_a_failure(rig: DelivererRig, caplog: pytest.LogCaptureFixture) -> None:
    rig.sender.answers = [RuntimeError("a bug")]
    await rig.run(delivery("a"))
    assert [result.failure for result in rig.outbox.results] == ["Internal error."]
    assert "webhook endpoint endpoint: internal error" in caplog.text
    await rig.deliverer.stop()


async def test_without_postgresql_an_attempt_does_not_count(rig: DelivererRig) -> None:
    rig.orders.unavailable = True
    await rig.run(delivery("a"))
    assert rig.outbox.results == [DeliveryResult(delivery("a"))]
    rig.outbox.unavailable = True
    await rig.run()
    rig.outbox.unavailable = rig.orders.unavailable = False
    await rig.run(delivery("a"))
    assert rig.outbox.results[1:] == [DeliveryResult(delivery("a"), delivered=True)]
    await rig.deliverer.stop()


async def test_a_stop_leaves_what_was_not_answered_to_be_sent_again(rig: DelivererRig) -> None:
    rig.sender.let.clear()
    await rig.run(delivery("a"), delivery("b"))
    await rig.deliverer.stop()
    left = sorted(rig.outbox.results, key=lambda result: result.delivery.order_id)
    assert left == [DeliveryResult(delivery("a")), DeliveryResult(delivery("b"))]


async def test_an_endpoint_that_answers_again_gets_what_waits(
    rig: DelivererRig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rig.outbox.change = NO_CHANGE._replace(suspended=True, failure="It answered 500.")
    await rig.run(delivery("a"))
    assert "webhook endpoint endpoint has failed repeatedly: It answered 500." in caplog.text
    rig.outbox.change = NO_CHANGE._replace(recovered=True)
    await rig.run(delivery("a"))
    assert rig.endpoints.hastened == ["endpoint"]
    rig.outbox.change = NO_CHANGE._replace(gone=True, failure="It answered 410.")
    await rig.run(delivery("a"))
    assert "webhook endpoint endpoint is disabled: It answered 410." in caplog.text
    await rig.deliverer.stop()


async def test_without_endpoints_nothing_is_claimed() -> None:
    rig = DelivererRig()
    rig.outbox.endpoints = False
    rig.deliverer.start()
    await settle()
    for _ in range(5):
        rig.deliverer.wake()
        await rig.clock.advance(0.05)
    assert rig.outbox.claims == []
    await rig.deliverer.stop()


async def test_all_that_is_too_old_is_given_up(rig: DelivererRig, caplog: pytest.LogCaptureFixture) -> None:
    rig.outbox.given_up = [{"a": 600, "b": 400}, {"a": 3}, {"a": 5}]
    await rig.deliverer.give_up_old()
    assert rig.outbox.given_up == [{"a": 5}]
    assert "webhook endpoint b: 400 deliveries are given up" in caplog.text
    await rig.deliverer.stop()
