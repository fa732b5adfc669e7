"""Decodes account bytes to fields and encodes them again, from one declaration per account.

A subclass is a frozen dataclass whose fields declare their offsets::

    @dataclass(frozen=True, slots=True)
    class Config(Account):
        SIZE = 236
        DISCRIMINATOR = anchor_discriminator("AmmConfig")

        trade_fee_rate: int = at(12, U64)

Bytes outside the declared fields are preserved, so that ``encode(decode(data)) == data``.
"""

import dataclasses
import hashlib
import struct
from typing import ClassVar, Generic, NamedTuple, Self, TypeVar

from service.amm.errors import MalformedStateError

T = TypeVar("T", int, bytes)


class Kind(NamedTuple, Generic[T]):
    """A type on the wire: its struct code, its zero, and whether it is one little-endian wide integer."""

    code: str
    zero: T
    wide: bool = False


U8 = Kind("B", 0)
U16 = Kind("H", 0)
U32 = Kind("I", 0)
I32 = Kind("i", 0)
U64 = Kind("Q", 0)
I64 = Kind("q", 0)
U128 = Kind("16s", 0, wide=True)
KEY = Kind("32s", bytes(32))


def blob(size: int) -> Kind[bytes]:
    """Raw bytes of this size."""
    return Kind(f"{size}s", bytes(size))


def at(offset: int, kind: Kind[T]) -> T:
    """Declare a field at a byte offset, which includes the discriminator."""
    return dataclasses.field(default=kind.zero, metadata={"offset": offset, "kind": kind})


def anchor_discriminator(name: str) -> bytes:
    """Anchor's eight-byte discriminator of this account type."""
    return hashlib.sha256(f"account:{name}".encode()).digest()[:8]


class Layout(NamedTuple):
    """A compiled declaration.

    Attributes:
        codec: One struct over the whole account.
        names: The fields in order of offset.
        wide: Which of them are wide integers.
        kept: A mask, as a little-endian integer, of the bytes outside the declared fields.
    """

    codec: struct.Struct
    names: tuple[str, ...]
    wide: tuple[bool, ...]
    kept: int


def _compile(account: type["Account"]) -> Layout:
    placed = sorted(
        (field.metadata["offset"], field.metadata["kind"], field.name)
        for field in dataclasses.fields(account)
        if "offset" in field.metadata
    )
    kept = bytearray(b"\xff" * account.SIZE)
    code, end = "<", 0
    for offset, kind, name in placed:
        if offset < end:
            raise AssertionError(f"{account.__name__}.{name} overlaps the field before it")
        code += f"{offset - end}x{kind.code}"
        end = offset + struct.calcsize("<" + kind.code)
        kept[offset:end] = bytes(end - offset)
    return Layout(
        struct.Struct(f"{code}{account.SIZE - end}x"),
        tuple(name for _, _, name in placed),
        tuple(kind.wide for _, kind, _ in placed),
        int.from_bytes(kept, "little"),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """The fields of an account, with the bytes they were decoded from.

    Attributes:
        raw: The whole account as decoded; empty for one made from fields.
    """

    SIZE: ClassVar[int]
    DISCRIMINATOR: ClassVar[bytes] = b""
    _layout: ClassVar[Layout | None] = None

    raw: bytes = dataclasses.field(default=b"", repr=False, compare=False, kw_only=True)

    @classmethod
    def layout(cls) -> Layout:
        """Return the compiled declaration; it is compiled on first use."""
        if cls._layout is None:
            cls._layout = _compile(cls)
        return cls._layout

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode an account.

        Raises:
            MalformedStateError: Wrong size or discriminator.
        """
        if len(data) != cls.SIZE:
            raise MalformedStateError(f"{cls.__name__}: expected {cls.SIZE} bytes, got {len(data)}")
        if not data.startswith(cls.DISCRIMINATOR):
            raise MalformedStateError(f"{cls.__name__}: wrong discriminator")
        layout = cls.layout()
        values = {
            name: int.from_bytes(value, "little") if is_wide else value
            for name, is_wide, value in zip(layout.names, layout.wide, layout.codec.unpack(data), strict=True)
        }
        return cls(**values, raw=bytes(data))

    def encode(self) -> bytes:
        """Encode the account: the fields over the bytes it was decoded from, or over zeros.

        Raises:
            MalformedStateError: A field does not fit its width.
        """
        layout = self.layout()
        try:
            values = tuple(
                getattr(self, name).to_bytes(16, "little") if is_wide else getattr(self, name)
                for name, is_wide in zip(layout.names, layout.wide, strict=True)
            )
            fields = layout.codec.pack(*values)
        except (struct.error, OverflowError) as error:
            raise MalformedStateError(f"{type(self).__name__}: {error}") from error
        # struct silently truncates or pads bytes of a wrong length.
        if layout.codec.unpack(fields) != values:
            raise MalformedStateError(f"{type(self).__name__}: bytes of a wrong length")
        raw = self.raw or self.DISCRIMINATOR.ljust(self.SIZE, b"\0")
        kept = int.from_bytes(raw, "little") & layout.kept
        return (kept | int.from_bytes(fields, "little")).to_bytes(self.SIZE, "little")
