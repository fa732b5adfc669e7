"""Schemas of requests and responses about webhook endpoints, and of the messages that they get."""

from typing import TypedDict

from marshmallow import ValidationError, fields, validate, validates_schema

from service.api.admin_schemas import REASON, is_reason
from service.api.fields import Request, ResponseSchema, ShortList, StrictBoolean
from service.api.requests import account_field, label_field
from service.api.responses import StatusUpdateSchema
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.domain.webhook import event_type
from service.store.webhook_endpoints import MOST_PENDING
from service.webhooks.addresses import LONGEST_URL

_URL = {
    "description": "An https:// URL with a public address, without a user name, a password or a fragment.",
    "format": "uri",
    "minLength": 1,
    "maxLength": LONGEST_URL,
}
_TIME = {"format": "date-time"}


class SentWebhook(TypedDict):
    """An endpoint to create; None: of all statuses, types, labels."""

    url: str
    events: list[Status] | None
    order_type: OrderType | None
    label: str | None
    description: str | None


class NewWebhookSchema(Request[SentWebhook]):
    """The body of POST /api/webhooks."""

    url = fields.String(required=True, metadata=_URL)
    events = ShortList(
        fields.Enum(Status, by_value=True),
        load_default=None,
        longest=len(Status),
        metadata={"description": "Only changes to one of these statuses; null: all."},
    )
    order_type = fields.Enum(
        OrderType,
        by_value=True,
        load_default=None,
        metadata={"description": "Only orders of this type."},
    )
    label = label_field("Only orders that have this label.")
    description = fields.String(
        load_default=None,
        validate=is_reason,
        metadata={"description": "For people.", **REASON},
    )


class WebhookChanges(TypedDict, total=False):
    """What changes about an endpoint; what is absent does not."""

    url: str
    events: list[Status] | None
    description: str | None
    enabled: bool


class WebhookChangesSchema(Request[WebhookChanges]):
    """The body of PATCH /api/webhooks/{webhookId}: omitted members do not change."""

    meaningful_nulls = frozenset({"events", "description"})

    url = fields.String(metadata=_URL)
    events = ShortList(
        fields.Enum(Status, by_value=True),
        longest=len(Status),
        metadata={"description": "Only changes to one of these statuses; null: all."},
    )
    description = fields.String(
        validate=is_reason,
        metadata={
            "description": "For people; null removes it.",
            **REASON,
        },
    )
    enabled = StrictBoolean(metadata={"description": "false: nothing is sent to it or collected for it."})

    @validates_schema(pass_original=True, skip_on_field_errors=True)
    def check_any(self, data: dict[str, object], _sent: object, **_options: object) -> None:
        """Reject a request that changes nothing."""
        if not data:
            raise ValidationError("Give at least one member to change.")


class WebhookListQuery(TypedDict):
    """Whose endpoints are listed; None: the caller's, or those of all accounts for an admin."""

    account: str | None


class WebhookListQuerySchema(Request[WebhookListQuery]):
    """The query of GET /api/webhooks."""

    has_nulls = False

    account = account_field("List")


class WebhookSchema(ResponseSchema):
    """A webhook endpoint."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    account = fields.String(required=True)
    url = fields.String(required=True)
    events = fields.List(fields.String(validate=validate.OneOf(list(Status))), required=True, allow_none=True)
    order_type = fields.String(required=True, allow_none=True, validate=validate.OneOf([*OrderType, None]))
    label = fields.String(required=True, allow_none=True)
    description = fields.String(required=True, allow_none=True)
    enabled = fields.Boolean(required=True)
    disabled_reason = fields.String(
        required=True, allow_none=True, metadata={"description": "Why the service has disabled it."}
    )
    created_at = fields.String(required=True, metadata=_TIME)
    last_success_at = fields.String(required=True, allow_none=True, metadata=_TIME)
    last_failure_at = fields.String(required=True, allow_none=True, metadata=_TIME)
    last_failure = fields.String(required=True, allow_none=True)
    paused_until = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Nothing is sent before: it failed repeatedly, or asked for it.",
            **_TIME,
        },
    )
    pending = fields.Integer(
        required=True,
        metadata={"description": f"How many messages are left to deliver; {MOST_PENDING}: or more."},
    )
    given_up = fields.Integer(
        required=True, metadata={"description": "How many could not be delivered within a day."}
    )


class NewWebhookResultSchema(WebhookSchema):
    """A webhook endpoint that was created, with its secret."""

    secret = fields.String(
        required=True, metadata={"description": "Signs each message. It cannot be read again."}
    )


class WebhookListSchema(ResponseSchema):
    """Webhook endpoints, the oldest first."""

    webhooks = fields.List(fields.Nested(WebhookSchema), required=True)


class WebhookSecretSchema(ResponseSchema):
    """A webhook endpoint's new secret."""

    secret = fields.String(required=True)
    previous_until = fields.String(
        required=True,
        metadata={"description": "Until when the secret before signs each message too.", **_TIME},
    )


class WebhookMessageSchema(ResponseSchema):
    """A message to an endpoint, in the form of the Standard Webhooks convention."""

    type = fields.String(required=True, validate=validate.OneOf([event_type(status) for status in Status]))
    timestamp = fields.String(required=True, metadata={"description": "When the order changed.", **_TIME})
    data = fields.Nested(StatusUpdateSchema, required=True)


# Created once, since creating a schema costs more than using it.
NEW_WEBHOOK = NewWebhookSchema()
WEBHOOK_CHANGES = WebhookChangesSchema()
WEBHOOK_LIST_QUERY = WebhookListQuerySchema()
WEBHOOK = WebhookSchema()
NEW_WEBHOOK_RESULT = NewWebhookResultSchema()
WEBHOOK_SECRET = WebhookSecretSchema()
