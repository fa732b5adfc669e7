"""The messages of webhooks: those of the WebSocket, in the convention's form."""

import orjson

from service.api.responses import STATUS_UPDATE
from service.api.views import OrderAt
from service.api.webhook_events import write_message
from service.api.webhook_schemas import WebhookMessageSchema
from service.turns import finished
from tests.unit.api.test_views import FILLED


def test_each_message_has_the_order_as_of_its_entry() -> None:
    for sequence, entry in enumerate(FILLED.history, start=1):
        message = orjson.loads(finished(write_message(FILLED, sequence)))
        assert message["type"] == f"order.{entry['status']}"
        assert message["timestamp"] == entry["timestamp"]
        assert message["data"] == orjson.loads(orjson.dumps(STATUS_UPDATE.dump(OrderAt(FILLED, sequence))))
        assert set(message) == set(WebhookMessageSchema().fields)
