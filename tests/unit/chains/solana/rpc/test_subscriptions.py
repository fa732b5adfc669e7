"""What a WebSocket of the sandbox says, and what is made of its faults."""

import logging
from collections.abc import AsyncIterator

import pytest

from service.chains.solana.rpc.subscriptions import Listener, Notifications
from service.chains.solana.rpc.urls import websocket_url
from tests.support.clock import ManualClock
from tests.support.paper import until
from tests.support.served_chain import KEY, ServedChain, served_chain


class Heard:
    """A subscription to some accounts, and all that it has heard."""

    def __init__(self, served: ServedChain, clock: ManualClock, silence_s: float = 60) -> None:
        self.served = served
        self.clock = clock
        self.accounts: list[tuple[str, int]] = []
        self.slots: list[int] = []
        self.lost = 0
        [url, *_] = served.urls
        self.subscriptions = Notifications(
            served.endpoints.wire,
            websocket_url(url.url),
            url.name,
            clock,
            Listener(
                lambda account, slot: self.accounts.append((account, slot)), self.slots.append, self._lose
            ),
            silence_s=silence_s,
        )
        self.pool = str(served.local.pool("raydium_cpmm").addresses.pool)

    def _lose(self) -> None:
        self.lost += 1

    async def subscribed(self, count: int) -> None:
        """Wait until the connection has this many subscriptions."""
        await until(
            lambda: (connection := self.subscriptions._connection) and len(connection.granted) == count
        )

    def swap(self) -> int:
        """Swap in the pool, and return the slot."""
        self.served.local.send(self.served.local.sell())
        self.served.chain.advance()
        return self.served.chain.tip.slot


@pytest.fixture
async def served() -> AsyncIterator[ServedChain]:
    async with served_chain(clock=ManualClock()) as served:
        yield served


@pytest.fixture
async def heard(served: ServedChain) -> AsyncIterator[Heard]:
    heard = Heard(served, ManualClock())
    heard.subscriptions.follow([heard.pool])
    heard.subscriptions.start()
    await heard.subscribed(2)
    yield heard
    await heard.subscriptions.stop()


async def test_a_changed_account_and_each_slot_are_heard_of(heard: Heard) -> None:
    slot = heard.swap()
    await until(lambda: heard.accounts)
    heard.served.chain.advance()
    await until(lambda: len(heard.slots) == 2)
    assert (heard.accounts, heard.slots) == ([(heard.pool, slot)], [slot, slot + 1])
    assert heard.subscriptions.connected
    assert not heard.lost


async def test_accounts_are_followed_as_they_are_wanted(heard: Heard) -> None:
    other = str(heard.served.local.pool("meteora_damm_v2").addresses.pool)
    heard.subscriptions.follow([heard.pool, other])
    await heard.subscribed(3)
    heard.served.local.send(heard.served.local.sell("meteora_damm_v2"))
    heard.served.chain.advance()
    await until(lambda: heard.accounts)
    assert heard.accounts == [(other, heard.served.chain.tip.slot)]


async def test_a_lost_connection_is_told_and_made_again_with_all_subscriptions(heard: Heard) -> None:
    heard.served.arm("ws_drop")
    heard.served.chain.advance()
    await until(lambda: heard.lost)
    await until(lambda: heard.clock.sleeps_s)
    # Missed: nothing says so but the loss.
    heard.swap()
    assert heard.accounts == []
    await heard.clock.advance(heard.clock.sleeps_s[-1])
    await heard.subscribed(2)
    slot = heard.swap()
    await until(lambda: heard.accounts)
    assert heard.accounts == [(heard.pool, slot)]


async def test_a_silent_connection_counts_as_lost(served: ServedChain) -> None:
    heard = Heard(served, ManualClock(), silence_s=0.05)
    heard.subscriptions.follow([heard.pool])
    heard.served.arm("ws_silent", times=None)
    heard.subscriptions.start()
    await until(lambda: heard.lost)
    assert heard.accounts == []
    await heard.subscriptions.stop()


async def test_repeated_and_reversed_notifications_are_only_hints(heard: Heard) -> None:
    heard.served.arm("ws_repeat")
    slot = heard.swap()
    await until(lambda: len(heard.accounts) == 2 and len(heard.slots) == 2)
    assert heard.accounts == [(heard.pool, slot)] * 2
    heard.served.arm("ws_reverse")
    slot = heard.swap()
    await until(lambda: len(heard.accounts) == 3 and len(heard.slots) == 3)
    assert heard.accounts[-1] == (heard.pool, slot)
    assert not heard.lost


async def test_pauses_grow_while_no_connection_can_be_made(
    served: ServedChain, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard(served, ManualClock())
    heard.subscriptions._url = f"ws://127.0.0.1:1/?api-key={KEY}"
    heard.subscriptions.start()
    for count in range(1, 10):
        await until(lambda: len(heard.clock.sleeps_s) == count)  # noqa: B023 - called at once
        await heard.clock.advance(heard.clock.sleeps_s[-1])
    assert heard.clock.sleeps_s[:9] == [1, 2, 4, 8, 16, 30, 30, 30, 30]
    await heard.subscriptions.stop()
    assert "cannot be connected to" in caplog.text
    assert KEY not in caplog.text
