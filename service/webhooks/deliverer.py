"""Sends what is due: at least once, and in order for each order.

Every instance runs a deliverer. It leases deliveries from the outbox, of each order only the next, sends them
concurrently, and records the results. An endpoint that does not answer holds only its own few places, and
after repeated failures only one. However slowly an account's endpoints answer, the others get places.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from service.background import Background, cancel
from service.clock import Clock
from service.domain.order import Order
from service.domain.webhook import WebhookAnswer, WebhookDelivery, message_id, slowest_retry_ms
from service.postgres.database import UnavailableError
from service.store.orders import Orders
from service.store.webhook_endpoints import WebhookEndpoints
from service.store.webhook_outbox import MAX_PER_GIVE_UP, DeliveryResult, EndpointChange, WebhookOutbox
from service.turns import Steps, Turns
from service.webhooks.sender import WebhookSender

log = logging.getLogger(__name__)

_PER_ENDPOINT = 16
_MOST = 256
_RETRY_BASE_MS = 1_000

_POLL_S = 1.0
# Between two claims, so that one statement leases what several commits have added.
_PAUSE_S = 0.02
_KEEP_EVERY_S = 10.0
_DRAIN_S = 1.0

WriteMessage = Callable[[Order, int], Steps[bytes]]
"""Writes the message of an entry of an order's history, given its sequence."""


class WebhookDeliverer:
    """Sends to the endpoints of all accounts.

    Args:
        outbox: What is to be delivered.
        endpoints: Hastens what waits for one that answers again; drops what waits for deleted ones.
        orders: Reads the orders that messages are about.
        sender: Posts messages.
        write: Writes messages.
        clock: Times the loops, and draws the time until an attempt is repeated.
        retry_base_ms: The longest time until the first is repeated; it doubles each time.
    """

    def __init__(
        self,
        outbox: WebhookOutbox,
        endpoints: WebhookEndpoints,
        orders: Orders,
        sender: WebhookSender,
        write: WriteMessage,
        clock: Clock,
        *,
        retry_base_ms: int = _RETRY_BASE_MS,
    ) -> None:
        self._outbox = outbox
        self._endpoints = endpoints
        self._orders = orders
        self._sender = sender
        self._write = write
        self._clock = clock
        self._retry_base_ms = retry_base_ms
        self._turns = Turns(clock)
        self._jumps_back = clock.jumps_back
        # Without any endpoint, a wake-up is ignored.
        self._has_endpoints = False
        self._woken = asyncio.Event()
        # By account and endpoint.
        self._sending: Counter[tuple[str, str]] = Counter()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._attempts: set[asyncio.Task[DeliveryResult]] = set()
        # The current claim is never cancelled: what it has leased would wait for the lease.
        self._claim: asyncio.Task[None] | None = None
        self._claiming = Background("webhooks", self._claim_forever, clock)
        self._keeping = Background("old webhooks", self._keep_forever, clock)

    def start(self) -> None:
        """Begin to send, with what is left from before."""
        self._sender.start()
        self._claiming.start()
        self._keeping.start()

    async def drain(self) -> None:
        """Send nothing new, and wait a moment for the answers to what was sent."""
        await self._claiming.stop()
        await self._keeping.stop()
        if self._claim is not None:
            await asyncio.wait([self._claim], timeout=_DRAIN_S)
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=_DRAIN_S)

    async def stop(self) -> None:
        """Stop sending; what has not been answered is sent again, by another instance or after the start."""
        await self._claiming.stop()
        await self._keeping.stop()
        if self._claim is not None:
            await asyncio.wait([self._claim], timeout=_DRAIN_S)
            await cancel([self._claim])
        # The deliveries then record that they are due again.
        for attempt in self._attempts:
            attempt.cancel()
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=_DRAIN_S)
        await self._outbox.stop()
        await cancel(self._deliveries)
        await self._sender.stop()

    def wake(self) -> None:
        """Check soon what is due: an order may have changed. Costs nothing while there are no endpoints."""
        if self._has_endpoints:
            self._woken.set()

    def announce(self) -> None:
        """Check soon what is due: an endpoint was created or changed."""
        self._has_endpoints = True
        self._woken.set()

    async def _claim_forever(self) -> None:
        while True:
            self._woken.clear()
            self._claim = asyncio.create_task(self._claim_due(), name="webhook claim")
            try:
                await asyncio.wait([self._claim])
                self._claim.result()
            except UnavailableError as error:
                log.debug("webhooks: PostgreSQL is unavailable (%s)", error)
            await self._clock.sleep(_PAUSE_S)
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _claim_due(self) -> None:
        if not self._has_endpoints:
            self._has_endpoints = await self._outbox.has_endpoints()
        free = _MOST - len(self._deliveries)
        if not self._has_endpoints or free <= 0:
            return
        if self._jumps_back != (jumps_back := self._clock.jumps_back):
            await self._outbox.hasten_all()
            self._jumps_back = jumps_back
        # The fewer places are free, the fewer an account may hold, and a claim takes only half of them: so a
        # few accounts with slow endpoints leave some.
        claimed = await self._outbox.claim(
            self._sending, per_endpoint=_PER_ENDPOINT, per_account=max(free // 4, 1), most=max(free // 2, 1)
        )
        for delivery in claimed:
            task = asyncio.create_task(self._deliver(delivery), name="webhook delivery")
            self._sending[delivery.account, delivery.endpoint_id] += 1
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        """Send a delivery once, and record the result."""
        # A task of its own, which a stop cancels without cancelling the record.
        attempt = asyncio.create_task(self._attempt(delivery), name="webhook attempt")
        self._attempts.add(attempt)
        try:
            await asyncio.wait([attempt])
            result = DeliveryResult(delivery) if attempt.cancelled() else attempt.result()
            change = await self._outbox.settle(result)
            if change is not None:
                await self._follow(change)
        except UnavailableError as error:
            log.debug("webhooks: PostgreSQL is unavailable (%s)", error)
        except Exception:
            # It is sent again after its lease.
            log.exception("webhooks: internal error", extra={"fault": "webhooks"})
        finally:
            attempt.cancel()
            self._attempts.discard(attempt)
            place = delivery.account, delivery.endpoint_id
            self._sending[place] -= 1
            if not self._sending[place]:
                del self._sending[place]
            self._woken.set()

    async def _attempt(self, delivery: WebhookDelivery) -> DeliveryResult:
        try:
            order = await self._orders.get_whole(delivery.order_id)
            if order is None:
                return DeliveryResult(delivery, delivered=True)  # there is nothing to tell
            body = await self._turns.run(self._write(order, delivery.sequence))
            answer = await self._sender.post(
                delivery.url, delivery.secrets, message_id(delivery.order_id, delivery.sequence), body
            )
        except UnavailableError:
            return DeliveryResult(delivery)
        except Exception:
            fault = {"fault": f"webhook endpoint {delivery.endpoint_id}"}
            log.exception("webhook endpoint %s: internal error", delivery.endpoint_id, extra=fault)
            answer = WebhookAnswer("Internal error.")
        return self._judge(delivery, answer)

    def _judge(self, delivery: WebhookDelivery, answer: WebhookAnswer) -> DeliveryResult:
        if answer.failure is None:
            return DeliveryResult(delivery, delivered=True)
        slowest_ms = slowest_retry_ms(delivery.attempts, self._retry_base_ms)
        return DeliveryResult(
            delivery,
            failure=answer.failure,
            retry_in_ms=self._clock.between(slowest_ms // 2, slowest_ms),
            pause_ms=None if answer.pause_s is None else round(answer.pause_s * 1000),
            gone=answer.gone,
        )

    async def _follow(self, change: EndpointChange) -> None:
        """Log what has changed about an endpoint; one that answers again gets what waits for it."""
        if change.gone:
            log.warning("webhook endpoint %s is disabled: %s", change.id, change.failure)
        elif change.suspended:
            log.warning("webhook endpoint %s has failed repeatedly: %s", change.id, change.failure)
        elif change.recovered:
            log.info("webhook endpoint %s answers again", change.id)
            await self._endpoints.hasten(change.id)

    async def _keep_forever(self) -> None:
        """Give up what is too old, drop what nobody waits for, and notice when the last endpoint is gone."""
        while True:
            await self._clock.sleep(_KEEP_EVERY_S)
            try:
                await self.give_up_old()
                await self._endpoints.drop_orphans()
                self._has_endpoints = await self._outbox.has_endpoints()
            except UnavailableError as error:
                log.debug("webhooks: PostgreSQL is unavailable (%s)", error)

    async def give_up_old(self) -> None:
        """Give up what has failed for too long; the later deliveries of an order wait for it no more."""
        while True:
            given_up = await self._outbox.give_up_old()
            for endpoint_id, count in given_up.items():
                log.warning("webhook endpoint %s: %d deliveries are given up", endpoint_id, count)
            if sum(given_up.values()) < MAX_PER_GIVE_UP:
                return
