"""The limit of WebSockets that an API key may have open at once on this instance."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.api.problems import TooManyRequestsError
from service.domain.api_key import Caller


class SocketLimits:
    """Counts the open WebSockets of each key. An anonymous client has no limit."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def count(self, caller: Caller) -> Iterator[None]:
        """Count a WebSocket while it is open.

        Raises:
            TooManyRequestsError: The caller's key has as many open as it may have.
        """
        key_id, most = caller.key_id, caller.limits.max_sockets
        if key_id is None:
            yield
            return
        if most is not None and self._open[key_id] >= most:
            raise TooManyRequestsError(
                f"The API key may have at most {most} WebSockets open at once.", rule="maxSockets", limit=most
            )
        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]
