"""The queries of GET /api/orders, and of the WebSocket of all orders."""

import re
from collections.abc import Mapping

from marshmallow import ValidationError, fields, validate

from service.api.fields import Cursor, ListPosition, QueryInteger, Request
from service.api.requests import SentFilter, account_field, label_field
from service.api.swap_request import optional_token
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.domain.quote import MULTIPLE, Dex
from service.domain.timestamps import InvalidTimestampError, format_timestamp, parse_timestamp

DEFAULT_PAGE = 100
LARGEST_PAGE = 500
_STATUSES = "^({0})(,({0}))*$".format("|".join(Status))


class StatusList(fields.Field[frozenset[Status]]):
    """Statuses, separated by commas."""

    def _deserialize(self, value: str, *_where: object, **_options: object) -> frozenset[Status]:
        try:
            return frozenset(Status(name) for name in value.split(","))
        except ValueError:
            raise ValidationError(
                f"Must be of: {', '.join(Status)}; several are separated by commas."
            ) from None


class Time(fields.String):
    """A time; loaded in UTC, because PostgreSQL knows fewer offsets than RFC 3339."""

    def _deserialize(
        self, value: object, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> str:
        try:
            return format_timestamp(parse_timestamp(super()._deserialize(value, attr, data, **options)))
        except InvalidTimestampError as error:
            raise ValidationError(f"It {error}.") from None


def _time(which: str) -> Time:
    return Time(load_default=None, metadata={"description": f"Only orders {which}.", "format": "date-time"})


def _is_client_order_id_prefix(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValidationError("Must be 1 to 64 characters of A-Z a-z 0-9 . _ : -")


def _status_field(description: str) -> StatusList:
    return StatusList(
        load_default=None,
        metadata={"type": "string", "description": description, "pattern": _STATUSES},
    )


def _prefix_field() -> fields.String:
    return fields.String(
        load_default=None,
        validate=_is_client_order_id_prefix,
        metadata={
            "description": "Only orders whose clientOrderId begins with this.",
            "pattern": "^[A-Za-z0-9._:-]{1,64}$",
        },
    )


class ListQuery(SentFilter):
    """A filter of orders, None matches any; a limit; and a cursor, None: from the newest."""

    status: frozenset[Status] | None
    venue: str | None
    created_from: str | None
    created_to: str | None
    client_order_id_prefix: str | None
    awaiting_approval: str | None
    limit: int
    cursor: ListPosition | None


class ListQuerySchema(Request[ListQuery]):
    """The query of GET /api/orders."""

    has_nulls = False

    account = account_field("List")
    status = _status_field("Only orders in one of these statuses, separated by commas.")
    venue = fields.String(
        load_default=None,
        validate=validate.OneOf([*Dex, MULTIPLE]),
        metadata={"description": "Only orders whose last route is through this DEX, or through multiple."},
    )
    created_from = _time("placed at this time or later")
    created_to = _time("placed before this time")
    client_order_id_prefix = _prefix_field()
    awaiting_approval = fields.String(
        load_default=None,
        validate=validate.OneOf(["true"]),
        metadata={"description": "`true`: only orders that await approval."},
    )
    order_type = fields.Enum(OrderType, by_value=True, load_default=None)
    token_in = optional_token("sold")
    token_out = optional_token("bought")
    label = label_field("Only orders that have this label.")
    limit = QueryInteger(
        load_default=DEFAULT_PAGE,
        validate=validate.Range(1, LARGEST_PAGE),
        metadata={"description": "The maximum number of orders; a page of large orders has fewer."},
    )
    cursor = Cursor(load_default=None, metadata={"type": "string", "description": "nextCursor of a page."})


class OrdersStreamQuery(SentFilter):
    """A filter of events, None matches any; and a position, None: from now on."""

    status: frozenset[Status] | None
    client_order_id_prefix: str | None
    after: str | None


class OrdersStreamQuerySchema(Request[OrdersStreamQuery]):
    """The query of GET /api/orders/ws."""

    has_nulls = False

    account = account_field("Stream")
    status = _status_field("Only events with one of these statuses, separated by commas.")
    client_order_id_prefix = _prefix_field()
    order_type = fields.Enum(OrderType, by_value=True, load_default=None)
    token_in = optional_token("sold")
    token_out = optional_token("bought")
    label = label_field("Only orders that have this label.")
    after = fields.String(
        data_key="from",
        load_default=None,
        metadata={"description": "Resume after the message with this position, at most 24 h old."},
    )


# Building a schema costs more than using it.
LIST_QUERY = ListQuerySchema()
ORDERS_STREAM_QUERY = OrdersStreamQuerySchema()
