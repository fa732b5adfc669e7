"""The bus: carries committed steps to the feeds of every instance.

Feeds on the same instance get them directly, others by one Redis message per group. A message may be lost:
the feeds compare with the store every second.
"""

import logging
from collections.abc import Callable, Sequence

import orjson

from service import crash_points
from service.clock import Clock
from service.domain.history import Committed
from service.domain.quote import Amounts
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import Fill
from service.events.feed import Feeds
from service.postgres.deployment import Deployment
from service.redis.channel import Channel
from service.redis.link import RedisLink

log = logging.getLogger(__name__)


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
        self.channel = Channel(link, deployment, "steps", clock, sender=sender, receive=self._receive)

    def on_steps(self, callback: Callable[[Sequence[Committed]], None]) -> None:
        """Register a callback for the steps of all instances; it must not block. A message may be lost."""
        self._listeners.append(callback)

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

    def _receive(self, message: bytes) -> None:
        """Process another instance's message."""
        try:
            self._deliver(_decode(message))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("bus: malformed message (%s)", error, extra={"fault": "bus"})

    def _deliver(self, steps: Sequence[Committed]) -> None:
        for listener in self._listeners:
            listener(steps)


def _encode(steps: Sequence[Committed]) -> bytes:
    return orjson.dumps(
        [
            [
                step.order_id,
                step.entry,
                step.routing and [step.routing.quotes, step.routing.route],
                step.quoted and [str(step.quoted.amount_in), str(step.quoted.amount_out)],
                step.fill and [step.fill.amount_in, step.fill.amount_out, step.fill.tx_hash],
                step.decimals_out,
            ]
            for step in steps
        ]
    )


def _decode(message: bytes) -> list[Committed]:
    return [
        Committed(
            order_id,
            entry,
            None if routing is None else RoutingRecord(*routing),
            None if quoted is None else Amounts(int(quoted[0]), int(quoted[1])),
            None if fill is None else Fill(int(fill[0]), int(fill[1]), fill[2]),
            decimals_out,
        )
        for order_id, entry, routing, quoted, fill, decimals_out in orjson.loads(message)
    ]
