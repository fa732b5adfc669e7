"""The sender: the convention's signature, and what answers mean."""

import asyncio
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from service.domain.webhook import WebhookAnswer, answer_of, format_secret, message_id, slowest_retry_ms
from service.webhooks import addresses
from service.webhooks.sender import WebhookSender
from tests.support.clock import START_S, ManualClock

# The example of the convention's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = bytes.fromhex("31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0")
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
SIGNED_AT = 1_614_265_330


def sender(clock: ManualClock | None = None) -> WebhookSender:
    return WebhookSender(clock or ManualClock(), timeout_s=15, allow_private=False)


async def test_the_signature_is_that_of_the_convention() -> None:
    clock = ManualClock()
    clock.observe_database_time(SIGNED_AT + 0.9)
    assert format_secret(KEY) == SECRET
    assert sender(clock)._sign([KEY, b"x" * 32, KEY], MESSAGE_ID, BODY) == {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(SIGNED_AT),
        "webhook-signature": f"{SIGNATURE} v1,PIWFIdKYOqgTxL1EbI1zDJ/fluLonsLmFWpOSsoDzbc= {SIGNATURE}",
    }


def test_an_id_has_no_full_stop() -> None:
    assert (
        message_id("01a20442-5a0b-7807-a11a-525a6a5718f3", 12)
        == "msg_01a20442-5a0b-7807-a11a-525a6a5718f3_12"
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_a_delivery(status: int) -> None:
    assert answer_of(status, 7) == WebhookAnswer()


@pytest.mark.parametrize("status", [100, 301, 302, 308, 400, 401, 404, 429, 500, 503])
def test_anything_else_is_none(status: int) -> None:
    answer = answer_of(status, None)
    assert answer.failure is not None
    assert str(status) in answer.failure
    assert (answer.pause_s, answer.gone) == (None, False)


def test_410_is_the_end() -> None:
    assert answer_of(410, 7).gone


@pytest.mark.parametrize(
    ("status", "retry_after_s", "pause_s"),
    [(503, 7, 7), (429, 7, 7), (500, 7, None), (503, -7, 0), (429, 10**9, 3_600), (503, None, None)],
)
def test_a_pause_is_asked_for_with_429_and_503(
    status: int, retry_after_s: float | None, pause_s: float | None
) -> None:
    assert answer_of(status, retry_after_s).pause_s == pause_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        (format_datetime(datetime.fromtimestamp(START_S, UTC) + timedelta(seconds=90), usegmt=True), 90),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 400, None),
        ("\u0661", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert sender()._seconds(header) == seconds


def test_the_time_until_an_attempt_is_repeated_doubles_up_to_ten_minutes() -> None:
    times = [slowest_retry_ms(attempts, 1_000) for attempts in range(60)]
    assert times[:4] == [1_000, 2_000, 4_000, 8_000]
    assert set(times[10:]) == {600_000}


async def test_names_that_are_checked_in_vain_delay_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, resolve = threading.Event(), socket.getaddrinfo

    def ask(host: str, *args: Any, **options: Any) -> Any:
        if host.startswith("silent"):
            answered.wait()
        return resolve(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(addresses, "_RESOLVE_TIMEOUT_S", 0.05)
    sending = WebhookSender(ManualClock(), timeout_s=1, allow_private=False)
    sending.start()
    try:
        names = [f"https://silent{number}.invalid/" for number in range(50)]
        assert await asyncio.gather(*map(sending.find_fault, names)) == [None] * 50
        answer = await sending.post("https://localhost/", [KEY], MESSAGE_ID, BODY)
        assert answer == WebhookAnswer("The address is not a public one.")
    finally:
        answered.set()
        await sending.stop()
