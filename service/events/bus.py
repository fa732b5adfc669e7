"""The bus: carries committed steps to the feeds of every instance.

Feeds on the same instance get them directly, others by one Redis message per group. A message may be lost:
the feeds compare with the store every second. Sightings of executions that are not final are carried too; a
lost one is not repeated.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from service import crash_points
from service.clock import Clock
from service.domain.history import Committed
from service.domain.quote import Amounts
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import Fill, Seen, SeenCommitment
from service.events.feed import Feeds
from service.postgres.deployment import Deployment
from service.redis.channel import Channel
from service.redis.link import RedisLink

log = logging.getLogger(__name__)

OnSeen = Callable[[str, int, Seen | None], None]
"""Called with an order's id, its version, and where its transaction is seen now; None: not any more.

Must not block.
"""


class Bus:
    """Carries committed steps.

    Args:
        link: The connection to Redis.
        feeds: Get the steps of all instances.
        clock: Times reconnecting.
        deployment: The deployment whose instances share the bus.
        sender: This process's id.
    """

    def __init__(
        self, link: RedisLink, feeds: Feeds, clock: Clock, *, deployment: Deployment, sender: str
    ) -> None:
        self._listeners: list[Callable[[Sequence[Committed]], None]] = [feeds.deliver]
        self._seen_listeners: list[OnSeen] = []
        self.channel = Channel(link, deployment, "steps", clock, sender=sender, receive=self._receive)

    def on_steps(self, callback: Callable[[Sequence[Committed]], None]) -> None:
        """Register a callback for the steps of all instances; it must not block. A message may be lost."""
        self._listeners.append(callback)

    def on_seen(self, callback: OnSeen) -> None:
        """Register a callback for the sightings of all instances."""
        self._seen_listeners.append(callback)

    def start(self) -> None:
        """Begin to listen to the other instances."""
        self.channel.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self.channel.stop()

    def publish(self, steps: Sequence[Committed]) -> None:
        """Publish steps that have just been committed here to all instances. Never blocks."""
        crash_points.reach("before publish")
        self._deliver(steps)
        self.channel.publish(_encode(steps))
        crash_points.reach("after publish")

    def publish_seen(self, order_id: str, version: int, seen: Seen | None) -> None:
        """Publish where an order's transaction was seen to all instances; None: it has vanished."""
        self._deliver_seen(order_id, version, seen)
        self.channel.publish(orjson.dumps({"seen": _encode_seen(order_id, version, seen)}))

    def _receive(self, message: bytes) -> None:
        """Process another instance's message."""
        try:
            content = orjson.loads(message)
            if isinstance(content, dict):
                self._deliver_seen(*_decode_seen(content["seen"]))
            else:
                self._deliver(_decode(content))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("bus: malformed message (%s)", error, extra={"fault": "bus"})

    def _deliver(self, steps: Sequence[Committed]) -> None:
        for listener in self._listeners:
            listener(steps)

    def _deliver_seen(self, order_id: str, version: int, seen: Seen | None) -> None:
        for listener in self._seen_listeners:
            listener(order_id, version, seen)


def _encode(steps: Sequence[Committed]) -> bytes:
    return orjson.dumps(
        [
            [
                step.order_id,
                step.entry,
                step.routing and [step.routing.quotes, step.routing.route],
                step.quoted and [str(step.quoted.amount_in), str(step.quoted.amount_out)],
                _encode_fill(step.fill),
                step.decimals_out,
            ]
            for step in steps
        ]
    )


def _encode_fill(fill: Fill | None) -> list[int | str] | None:
    return None if fill is None else [fill.amount_in, fill.amount_out, fill.tx_hash]


def _decode_fill(fill: Any) -> Fill | None:
    return None if fill is None else Fill(int(fill[0]), int(fill[1]), fill[2])


def _encode_seen(order_id: str, version: int, seen: Seen | None) -> list[Any]:
    where = None if seen is None else [seen.slot, seen.commitment, _encode_fill(seen.fill)]
    return [order_id, version, where]


def _decode_seen(content: Any) -> tuple[str, int, Seen | None]:
    order_id, version, where = content
    if where is None:
        return order_id, int(version), None
    slot, commitment, fill = where
    return order_id, int(version), Seen(int(slot), SeenCommitment(commitment), _decode_fill(fill))


def _decode(content: Any) -> list[Committed]:
    return [
        Committed(
            order_id,
            entry,
            None if routing is None else RoutingRecord(*routing),
            None if quoted is None else Amounts(int(quoted[0]), int(quoted[1])),
            _decode_fill(fill),
            decimals_out,
        )
        for order_id, entry, routing, quoted, fill, decimals_out in content
    ]
