"""The messages of webhooks: the status update of an order's WebSocket, in the Standard Webhooks form."""

import orjson

from service.api.timeline import Timeline
from service.domain.order import Order
from service.domain.webhook import event_type
from service.turns import Steps


def write_message(order: Order, sequence: int) -> Steps[bytes]:
    """Write the message of an entry of an order's history, in steps, since many entries may precede it.

    Args:
        order: The order, at that entry or later, with the quotes of all attempts.
        sequence: The entry's sequence.
    """
    timeline = Timeline()
    yield from timeline.grow(order, sequence)
    entry = order.history[sequence - 1]
    return orjson.dumps(
        {
            "type": event_type(entry["status"]),
            "timestamp": entry["timestamp"],
            "data": orjson.Fragment(timeline.message(order, sequence)),
        }
    )
