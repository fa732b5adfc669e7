"""The cache of API keys: read at most once a second, by one read at a time, never used when it is older."""

import asyncio
from dataclasses import replace

import pytest

from service.domain.api_key import ApiKey, Scope, format_token, hash_secret
from service.postgres.database import UnavailableError
from service.store.api_keys import ApiKeys, KeyCache
from tests.support.clock import START_S, ManualClock, settle

SECRET = "7" * 64
KEY = ApiKey("0123456789abcdef", "desk", "bot", Scope.TRADE, hash_secret(SECRET), created_at=START_S)
TOKEN = format_token(KEY.id, SECRET)


class StoredKeys(ApiKeys):
    """Stored keys in memory, whose reads a test holds and fails."""

    def __init__(self, clock: ManualClock) -> None:
        self._test_clock = clock
        self.changed: list[ApiKey] = [KEY]
        self.since: list[float | None] = []
        self.held: asyncio.Event | None = None
        self.error: Exception | None = None

    async def get_changed(self, since: float | None) -> tuple[float, list[ApiKey]]:
        """Return what a test has set."""
        self.since.append(since)
        changed = self.changed
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        return self._test_clock.database_time(), changed


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def stored(clock: ManualClock) -> StoredKeys:
    """Return the stored keys."""
    return StoredKeys(clock)


async def refused(cache: KeyCache, clock: ManualClock, token: str) -> bool:
    """Return whether a token is refused; before that, the keys are read once more."""
    waiting = asyncio.create_task(cache.authenticate(token))
    await clock.advance(0.05)
    return await waiting is None


async def test_the_keys_are_read_again_after_a_second(clock: ManualClock, stored: StoredKeys) -> None:
    cache = KeyCache(stored, clock)
    for _ in range(3):
        await cache.refresh()
    assert stored.since == [None]
    assert await cache.authenticate(TOKEN) == KEY
    stored.changed = [replace(KEY, revoked_at=START_S)]
    await clock.advance(0.9)
    await cache.refresh()
    assert await cache.authenticate(TOKEN) == KEY
    await clock.advance(0.1)
    await cache.refresh()
    assert await refused(cache, clock, TOKEN)
    # A change that was dated before the last read and committed after it is not missed.
    assert stored.since[1] is not None
    assert stored.since[1] <= START_S - 10


async def test_all_keys_are_read_again_when_the_clock_has_jumped_back(
    clock: ManualClock, stored: StoredKeys
) -> None:
    cache = KeyCache(stored, clock)
    await cache.refresh()
    stored.changed = [replace(KEY, revoked_at=START_S - 3_000)]
    await clock.advance(1)
    # Another statement has noticed it.
    clock.observe_database_time(START_S - 3_600)
    assert await refused(cache, clock, TOKEN)
    assert None in stored.since[1:]


async def test_many_callers_share_one_read(clock: ManualClock, stored: StoredKeys) -> None:
    cache = KeyCache(stored, clock)
    stored.held = asyncio.Event()
    waiting = [asyncio.create_task(cache.refresh()) for _ in range(10)]
    await settle()
    # One that disconnects does not end the read of the others.
    waiting.pop(0).cancel()
    await settle()
    stored.held.set()
    await asyncio.gather(*waiting)
    assert len(stored.since) == 1
    assert not cache.is_empty


async def test_what_cannot_be_read_authenticates_nobody(clock: ManualClock, stored: StoredKeys) -> None:
    cache = KeyCache(stored, clock)
    await cache.refresh()
    await clock.advance(1)
    stored.error = UnavailableError("away", unknown=False)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await cache.refresh()
    stored.error = None
    await cache.refresh()
    assert await cache.authenticate(TOKEN) == KEY


async def test_a_change_during_a_read_is_read_within_a_second(clock: ManualClock, stored: StoredKeys) -> None:
    cache = KeyCache(stored, clock)
    stored.held = asyncio.Event()
    reading = asyncio.create_task(cache.refresh())
    await settle()
    stored.changed = [replace(KEY, revoked_at=START_S)]
    await clock.advance(0.7)
    stored.held.set()
    await reading
    assert await cache.authenticate(TOKEN) == KEY
    # The age counts from when the read began.
    await clock.advance(0.3)
    await cache.refresh()
    assert await refused(cache, clock, TOKEN)


async def test_a_key_expires_by_itself(clock: ManualClock, stored: StoredKeys) -> None:
    stored.changed = [replace(KEY, expires_at=START_S + 0.5)]
    cache = KeyCache(stored, clock)
    await cache.refresh()
    assert cache.active(KEY.id) is not None
    await clock.advance(0.5)
    assert cache.active(KEY.id) is None
    assert await refused(cache, clock, TOKEN)


async def test_a_key_that_was_just_created_or_rotated_is_accepted(
    clock: ManualClock, stored: StoredKeys
) -> None:
    stored.changed = []
    cache = KeyCache(stored, clock)
    await cache.refresh()
    for changed, token in (
        (KEY, TOKEN),
        (replace(KEY, secret_hash=hash_secret("8" * 64)), format_token(KEY.id, "8" * 64)),
    ):
        stored.changed = [changed]
        waiting = asyncio.create_task(cache.authenticate(token))
        await clock.advance(0.05)
        assert await waiting == changed


async def test_however_many_guess_the_reads_are_no_more_frequent(
    clock: ManualClock, stored: StoredKeys
) -> None:
    cache = KeyCache(stored, clock)
    await cache.refresh()
    guesses = [
        asyncio.create_task(cache.authenticate(format_token(key_id, "9" * 64)))
        for key_id in (KEY.id, "f" * 16)
        for _ in range(500)
    ]
    await clock.advance(0.04)
    assert len(stored.since) == 1
    await clock.advance(0.06)
    assert set(await asyncio.gather(*guesses)) == {None}
    assert len(stored.since) == 2


async def test_unknown_and_malformed_tokens_are_refused(clock: ManualClock, stored: StoredKeys) -> None:
    cache = KeyCache(stored, clock)
    await cache.refresh()
    for token in ("", "oek_x", format_token("f" * 16, SECRET), format_token(KEY.id, "8" * 64)):
        assert await refused(cache, clock, token)
