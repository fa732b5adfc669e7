"""The messages that wait for one client of a stream."""

import asyncio
from collections import deque

MOST_WAITING_BYTES = 4 * 1024 * 1024
"""If more than this waits for a client, it is too slow."""


class SlowReaderError(Exception):
    """Too much waits for a client."""


class MessageQueue:
    """A queue of messages, limited in bytes. The messages themselves are shared by many queues."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._size = 0
        self._error: Exception | None = None
        self._ready = asyncio.Event()

    def put(self, message: bytes) -> None:
        """Append a message; if too much waits then, the queue fails."""
        if self._error is not None:
            return
        self._messages.append(message)
        self._size += len(message)
        self._ready.set()
        if self._size > MOST_WAITING_BYTES:
            self.fail(SlowReaderError())

    def fail(self, error: Exception) -> None:
        """Drop what waits; from now on ``get`` raises an error."""
        self._error = error
        self._messages.clear()
        self._ready.set()

    async def get(self) -> bytes:
        """Remove the first message and return it, as soon as there is one.

        Raises:
            SlowReaderError: Too much waited.
            Exception: The error with which the queue has failed.
        """
        await self._ready.wait()
        if self._error is not None:
            raise self._error
        message = self._messages.popleft()
        self._size -= len(message)
        if not self._messages:
            self._ready.clear()
        return message
