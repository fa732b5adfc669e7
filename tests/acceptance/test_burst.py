"""A burst with the default settings: every order is executed, ten at a time, a hundred a minute."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tests.support.judge import wait_for_the_end
from tests.support.load import place_many
from tests.support.process import ServiceProcess
from tests.support.servers import TestServers

Spawn = Callable[..., ServiceProcess]


@pytest.mark.long
def test_a_burst_with_default_settings(spawn: Spawn, servers: TestServers) -> None:
    promised = place_many(spawn(), 120)
    assert len(promised) == 120
    verdict, _took_s = wait_for_the_end(servers, promised, within_s=150)
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": 120}
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT status_history FROM orders")
        histories = [
            {entry["status"]: datetime.fromisoformat(entry["timestamp"]) for entry in history}
            for (history,) in cursor.fetchall()
        ]
    starts = sorted(history["routing"] for history in histories)
    assert all(
        later - earlier >= timedelta(seconds=60) for earlier, later in zip(starts, starts[100:], strict=False)
    )
    changes = sorted(
        change
        for history in histories
        # An order that ends releases its slot before the next one takes it.
        for change in ((history["routing"], 1), (history["confirmed"], -1))
    )
    running = highest = 0
    for _at, change in changes:
        running += change
        highest = max(highest, running)
    assert highest <= 10
