"""What schemas are made of: fields that are stricter than marshmallow's, and the two kinds of schemas."""

import base64
import binascii
import re
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields

from service.store.orders import Position

AMOUNT = {"pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"}
"""The form of an amount, as the document tells it."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID in its usual form."""
    return _UUID.fullmatch(text) is not None


class StrictInteger(fields.Integer):
    """A JSON integer: no string, no fraction, and not true, which Python takes for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class StrictTrue(fields.Boolean):
    """True, and nothing that only looks like it, such as 1."""

    def _deserialize(self, value: Any, *_where: Any, **_options: Any) -> bool:
        if value is not True:
            raise self.make_error("invalid", input=value)
        return True


class QueryInteger(fields.Integer):
    """A whole number in a query string: digits, and nothing that int() would also take."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> int:
        if not _WHOLE_NUMBER.fullmatch(value):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Cursor(fields.Field[Position]):
    """A place in a list of orders, opaque to the client."""

    def _serialize(self, value: Position | None, *_where: Any, **_options: Any) -> str | None:
        if value is None:
            return None
        text = f"{value.created_us}.{value.order_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _deserialize(self, value: Any, *_where: Any, **_options: Any) -> Position:
        try:
            text = base64.urlsafe_b64decode(value.encode("ascii") + b"==").decode("ascii")
        except (binascii.Error, UnicodeError):
            text = ""
        created_us, _, order_id = text.partition(".")
        if not (re.fullmatch(r"[0-9]{1,18}", created_us) and is_uuid(order_id)):
            raise ValidationError("Not a cursor that this service gave out.")
        return Position(int(created_us), order_id)


class Request(Schema):
    """What a client says, in camelCase; what is not known is refused."""

    class Meta:
        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name fields in camelCase on the wire."""
        if field_obj.data_key is None:
            field_obj.data_key = camel_case(field_name)


class Answer(Schema):
    """What the service says, in camelCase."""

    class Meta:
        ordered = True

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name fields in camelCase on the wire."""
        field_obj.data_key = camel_case(field_name)


class Stored(fields.Nested):
    """Objects that are stored in the wire's form, and go out as they are; the schema describes them."""

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_options: Any) -> Any:
        """Return the value itself."""
        return self.get_value(obj, attr, accessor=accessor)


def camel_case(name: str) -> str:
    """Return a snake_case name as it is on the wire."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
