"""Instructions of Anchor programs: eight bytes that name the instruction, then its arguments."""

import hashlib
import struct

from service.chains.solana.programs.pool import UnknownInstructionError

_LENGTH = 8


class AnchorInstruction:
    """The data of an instruction whose arguments are plain integers."""

    def __init__(self, name: str, arguments: str) -> None:
        """Declare an instruction.

        Args:
            name: Its name in the program.
            arguments: The arguments as a little-endian struct without the byte order, such as ``QQ``.
        """
        self.discriminator = hashlib.sha256(f"global:{name}".encode()).digest()[:_LENGTH]
        self._arguments = struct.Struct(f"<{arguments}")

    def encode(self, *values: int) -> bytes:
        """Return the data."""
        return self.discriminator + self._arguments.pack(*values)

    def matches(self, data: bytes) -> bool:
        """Whether the data begins as this instruction's does."""
        return data[:_LENGTH] == self.discriminator

    def decode(self, data: bytes) -> tuple[int, ...]:
        """Return the arguments of data that matches.

        Raises:
            UnknownInstructionError: The arguments have another length.
        """
        if len(data) != _LENGTH + self._arguments.size:
            raise UnknownInstructionError(f"{len(data)} bytes of data")
        return self._arguments.unpack_from(data, _LENGTH)
