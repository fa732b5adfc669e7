"""Schema base classes, and fields that are stricter than marshmallow's."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from marshmallow import RAISE, Schema, ValidationError, fields, missing, pre_load, validate

from service.domain.tokens import (
    MINT,
    SYMBOL,
    find_token,
    is_mint,
    is_symbol,
    look_alike,
    nearest_symbol,
)
from service.store.orders import Position

AMOUNT = {"pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"}
"""The form of an amount in the OpenAPI document."""

_TOKEN = f"({SYMBOL}|{MINT})"

PAIR_PATTERN = rf"{_TOKEN}-{_TOKEN}(:(0|[1-9][0-9]*)(\.[0-9]+)?)?"
"""A pair, and optionally an amount, in the OpenAPI document; not anchored."""

UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""A UUID in canonical form, as a regular expression."""

T = TypeVar("T")

_UUID = re.compile(UUID)
_TAG = re.compile(r"[0-9a-f]{12}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID in canonical form."""
    return _UUID.fullmatch(text) is not None


class StrictInteger(fields.Integer):
    """A JSON integer: no string, no fraction, and no boolean, which is an int in Python."""

    def _deserialize(
        self, value: object, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class StrictBoolean(fields.Boolean):
    """A JSON boolean; values such as 1 are rejected."""

    def _deserialize(self, value: object, *_where: object, **_options: object) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class TokenName(fields.String):
    """A token, named by its symbol or its mint address; loaded as the name by which it is known.

    Args:
        description: The token's role.
        listed: Whether it must be known; otherwise any valid symbol or mint is accepted, as it may be
            listed later.
        required: Whether it must be present.
        load_default: The value if it is omitted.
        validate: Rejects symbols.
    """

    def __init__(
        self,
        description: str,
        *,
        listed: bool = True,
        required: bool = False,
        load_default: object = missing,
        validate: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            required=required,
            load_default=load_default,
            validate=validate,
            metadata={"description": description, "pattern": f"^{_TOKEN}$"},
        )
        self._listed = listed

    def _deserialize(
        self, value: object, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> str:
        name = super()._deserialize(value, attr, data, **options)
        token = find_token(name)
        if token is not None:
            return token.symbol
        if not self._listed and (is_symbol(name) or is_mint(name)):
            return name
        raise unknown_token(name)


def unknown_token(name: str) -> ValidationError:
    """Return the error for an unknown token, with the closest known symbol."""
    near = nearest_symbol(name)
    hint = "GET /api/tokens lists them." if near is None else f"Did you mean {near}?"
    return ValidationError(f"Unknown token. {hint}")


def not_a_look_alike(symbol: str) -> None:
    """Reject a symbol that differs from a known one only in case: no such token can ever be listed.

    Raises:
        ValidationError: It does.
    """
    token = look_alike(symbol)
    if token is not None:
        raise ValidationError(f"Symbols are unique ignoring case. Did you mean {token.symbol}?")


class ShortList(fields.List[T]):
    """A list of 1 to ``longest`` elements.

    Its length is checked before its elements, of which a body may hold many thousands.
    """

    def __init__(self, element: fields.Field[T], *, longest: int, **options: Any) -> None:
        super().__init__(element, validate=validate.Length(1, longest), **options)
        self._longest = longest

    def _deserialize(
        self, value: object, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> list[T | None]:
        if isinstance(value, list) and not 1 <= len(value) <= self._longest:
            raise ValidationError(f"Length must be between 1 and {self._longest}.")
        return super()._deserialize(value, attr, data, **options)


class QueryInteger(fields.Integer):
    """A whole number in a query string: digits only, unlike int()."""

    def _deserialize(
        self, value: str, attr: str | None, data: Mapping[str, object] | None, **options: object
    ) -> int:
        if not _WHOLE_NUMBER.fullmatch(value):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class ListPosition(NamedTuple):
    """A position in one list of orders; ``tag`` is that of the list's filter."""

    position: Position
    tag: str


class Cursor(fields.Field[ListPosition]):
    """A position in a list of orders, opaque to the client."""

    def _serialize(self, value: ListPosition | None, *_where: object, **_options: object) -> str | None:
        if value is None:
            return None
        text = f"{value.position.created_us}.{value.position.order_id}.{value.tag}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _deserialize(self, value: str, *_where: object, **_options: object) -> ListPosition:
        try:
            text = base64.urlsafe_b64decode(value.encode("ascii") + b"==").decode("ascii")
        except (binascii.Error, UnicodeError):
            text = ""
        created_us, _, rest = text.partition(".")
        order_id, _, tag = rest.partition(".")
        if not (re.fullmatch(r"[0-9]{1,18}", created_us) and is_uuid(order_id) and _TAG.fullmatch(tag)):
            raise ValidationError("Not a valid cursor.")
        return ListPosition(Position(int(created_us), order_id), tag)


class Request(Schema, Generic[T]):
    """A request, in camelCase; unknown members are rejected, and null counts as omitted.

    ``T`` is the type of a loaded request, after the schema's ``post_load``.

    Attributes:
        has_nulls: Whether null can occur at all; not in a query string.
        meaningful_nulls: Members for which null is a meaningful value.
    """

    has_nulls = True
    meaningful_nulls: frozenset[str] = frozenset()

    class Meta:
        unknown = RAISE

    def read(self, sent: object) -> T:
        """Validate and load a parsed request, of any type.

        Raises:
            ValidationError: It does not match the schema.
        """
        # marshmallow also rejects what is not an object.
        read: T = self.load(sent)  # type: ignore[arg-type]
        return read

    def on_bind_field(self, field_name: str, field_obj: fields.Field[object]) -> None:
        """Name fields in camelCase on the wire."""
        if field_obj.data_key is None:
            field_obj.data_key = camel_case(field_name)
        field_obj.allow_none = self.has_nulls and not field_obj.required

    @pre_load
    def leave_out_nulls(self, data: object, **_options: object) -> object:
        """Remove the members that are null, so that a required one counts as missing."""
        if not isinstance(data, dict):
            return data  # marshmallow rejects it
        known = {field.data_key for field in self.load_fields.values()} - self.meaningful_nulls
        return {name: value for name, value in data.items() if value is not None or name not in known}


class ResponseSchema(Schema):
    """A response, in camelCase."""

    class Meta:
        ordered = True

    def on_bind_field(self, field_name: str, field_obj: fields.Field[object]) -> None:
        """Name fields in camelCase on the wire."""
        field_obj.data_key = camel_case(field_name)


class ViewSchema(ResponseSchema):
    """A response made of an object that has an attribute for each member, in the JSON's form already.

    Its values are taken as they are, which costs a tenth of marshmallow's conversions: there are six such
    responses for an order that is watched. Constants come first; members that are objects have a schema of
    this kind.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        constants = {name: each for name, each in self.fields.items() if isinstance(each, fields.Constant)}
        members = {name: each for name, each in self.fields.items() if name not in constants}
        self._constants = {each.data_key: each.constant for each in constants.values()}
        self._names = [each.data_key for each in members.values()]
        self._values = attrgetter(*(each.attribute or name for name, each in members.items()))
        self._nested = [
            each
            for each in members.values()
            if isinstance(each, fields.Nested) and not isinstance(each, Stored)
        ]

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:
        """Return an object as the JSON's object; of many, a list."""
        if self.many if many is None else many:
            return [self.dump(each, many=False) for each in obj]
        view = {**self._constants, **dict(zip(self._names, self._values(obj), strict=True))}
        for nested in self._nested:
            if view[nested.data_key] is not None:
                view[nested.data_key] = nested.schema.dump(view[nested.data_key], many=nested.many)
        return view


class Stored(fields.Nested):
    """Objects stored in the API's form and returned unchanged; the schema only documents them."""

    def serialize(
        self,
        attr: str,
        obj: object,
        accessor: Callable[[object, str, object], object] | None = None,
        **_options: object,
    ) -> object:
        """Return the value unchanged."""
        return self.get_value(obj, attr, accessor=accessor)


def camel_case(name: str) -> str:
    """Return a snake_case name in camelCase."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
