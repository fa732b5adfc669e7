"""What a hostile client may do with a WebSocket, as hypothesis strategies, and how the answer is judged."""

import json
import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto

from hypothesis import strategies as st

from tests.support.orders import Json

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

LARGEST_MESSAGE_IN = 4 * 1024
_PATIENCE_S = 5.0
_KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
_UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
_VERSION = b"Sec-WebSocket-Version: 13\r\n"

_PROTOCOL_ERRORS = frozenset({1002, 1003, 1007, 1009, 1010})
"""The close codes of RFC 6455 for a client that does not keep to it."""

_ECHOED = frozenset({1000, 1004, 1005, 1006, 1015, 2999, 3000, 4999})
"""Codes that a client sends, and a server may answer with."""

HANDSHAKES = [
    _UPGRADE + _VERSION + _KEY,
    _UPGRADE + _VERSION + _KEY + b"Sec-WebSocket-Protocol: order-engine.v1, other\r\n",
    _UPGRADE + _VERSION + _KEY + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    _UPGRADE + _VERSION + _KEY + b"Sec-WebSocket-Extensions: \xff;=,\r\n",
    _UPGRADE + _VERSION,
    _UPGRADE + _KEY,
    _UPGRADE + _VERSION + b"Sec-WebSocket-Key: short\r\n",
    _UPGRADE + b"Sec-WebSocket-Version: 99\r\n" + _KEY,
    b"Upgrade: websocket\r\n" + _VERSION + _KEY,
    b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + _VERSION + _KEY,
    _UPGRADE + _VERSION + _KEY + b"Content-Length: 5\r\n",
    _UPGRADE + _VERSION + _KEY + b"Transfer-Encoding: chunked\r\n",
    _UPGRADE + _VERSION + _KEY + b"Sec-WebSocket-Protocol: ticket.\xff\r\n",
]
"""The first ones are valid."""

_ACCEPTED = HANDSHAKES[:3]


class Ending(Enum):
    """How the client leaves."""

    CLOSE_FRAME = auto()
    HALF_CLOSE = auto()
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Attack:
    """What a client does: its handshake, what it sends afterwards and in which pieces, and how it leaves."""

    handshake: bytes
    sent: bytes
    piece: int
    together: bool
    ending: Ending


def frame(
    opcode: int,
    payload: bytes,
    *,
    first_bits: int = 0x8,
    mask: bytes | None = bytes(4),
    claimed: int | None = None,
    form: int = 0,
) -> bytes:
    """Return a frame, which need not be valid.

    Args:
        opcode: 0 to 15.
        payload: Its payload.
        first_bits: FIN and the reserved bits.
        mask: Its mask; None: it is not masked.
        claimed: The length that it claims to have; None: the true one.
        form: The form of the length: 0: as short as possible, 126, or 127.
    """
    size = len(payload) if claimed is None else claimed
    masked = 0x80 if mask is not None else 0
    head = bytes([first_bits << 4 | opcode])
    if form == 127 or size > 0xFFFF:
        head += bytes([masked | 127]) + struct.pack("!Q", size)
    elif form == 126 or size > 125:
        head += bytes([masked | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked | size])
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


_masks = st.sampled_from([bytes(4), b"\x01\x02\x03\xff"])
_payloads = st.one_of(
    st.binary(max_size=130),
    st.text(max_size=40).map(str.encode),
    st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "ä€😀".encode()[:-1]]),
    st.sampled_from([LARGEST_MESSAGE_IN - 1, LARGEST_MESSAGE_IN, LARGEST_MESSAGE_IN + 1, 70_000]).map(bytes),
)
_closes = st.one_of(
    st.binary(max_size=1),
    st.builds(
        lambda code, reason: struct.pack("!H", code) + reason,
        st.sampled_from([0, 999, 1000, 1004, 1005, 1006, 1015, 1016, 2999, 3000, 4999, 5000, 65_535]),
        st.one_of(st.binary(max_size=10), st.just(b"x" * 200)),
    ),
)
_valid = st.one_of(
    st.builds(frame, st.sampled_from([BINARY, PING, PONG]), st.binary(max_size=125), mask=_masks),
    st.builds(frame, st.just(TEXT), st.text(max_size=40).map(str.encode), mask=_masks),
)
_ordinary = st.builds(frame, st.sampled_from([TEXT, BINARY, PING, PONG]), _payloads, mask=_masks)
_malformed = st.builds(
    frame,
    st.integers(0, 15),
    _payloads,
    first_bits=st.integers(0, 15),
    mask=st.one_of(st.none(), _masks),
    claimed=st.one_of(st.none(), st.sampled_from([0, 1, 125, 126, 65_536, 2**31, 2**63, 2**64 - 1])),
    form=st.sampled_from([0, 126, 127]),
)
_fragments = st.lists(_payloads, min_size=1, max_size=4).map(
    lambda parts: b"".join(
        frame(CONTINUATION if number else TEXT, part, first_bits=0x8 if number == len(parts) - 1 else 0x0)
        for number, part in enumerate(parts)
    )
)
_frames = st.one_of(
    _ordinary,
    _ordinary,
    _malformed,
    _fragments,
    _closes.map(lambda payload: frame(CLOSE, payload)),
    st.binary(min_size=1, max_size=100),
    st.just(frame(PING, b"x") * 200),
    st.just(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
)

attacks = st.builds(
    Attack,
    handshake=st.one_of(*(st.sampled_from(each) for each in (_ACCEPTED, _ACCEPTED, HANDSHAKES))),
    # The first wrong frame ends the WebSocket, so that valid ones come before it.
    sent=st.builds(
        lambda valid, others: b"".join(valid + others),
        st.lists(_valid, max_size=3),
        st.lists(_frames, min_size=1, max_size=4),
    ),
    # Half frames, and frames byte by byte; 0: all at once.
    piece=st.sampled_from([0, 0, 1, 2, 5, 100]),
    # Whether the frames come with the handshake, before it is answered.
    together=st.booleans(),
    ending=st.sampled_from([Ending.HALF_CLOSE, Ending.CLOSE_FRAME, Ending.HALF_CLOSE, Ending.RESET]),
)
"""What hostile clients do."""


def carry_out(attack: Attack, port: int, path: str, token: str) -> bytes | None:
    """Attack a WebSocket; return all that was received, or None if the client has left without reading."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            link.sendall(head + attack.handshake + b"\r\n" + (attack.sent if attack.together else b""))
            if not attack.together:
                while b"\r\n\r\n" not in received and (part := link.recv(65_536)):
                    received += part
                _send(link, attack.sent, attack.piece)
            if attack.ending is Ending.RESET:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return None
            if attack.ending is Ending.CLOSE_FRAME:
                link.sendall(frame(CLOSE, struct.pack("!H", 1000)))
            link.shutdown(socket.SHUT_WR)
        except TimeoutError:
            raise
        except OSError:
            return None  # the service has ended the connection, and what it sent may be lost
        return received + _rest(link)


def _send(link: socket.socket, sent: bytes, piece: int) -> None:
    # Few pieces, however long it is: the rest follows at once.
    for _ in range(50 if piece else 0):
        if not sent:
            return
        link.sendall(sent[:piece])
        sent = sent[piece:]
    link.sendall(sent)


def _rest(link: socket.socket) -> bytes:
    """Read to the end of the connection, which must come in time."""
    received = b""
    try:
        while part := link.recv(65_536):
            received += part
    except ConnectionError:
        pass
    return received


def judge(received: bytes, documented: frozenset[int]) -> list[Json]:
    """Check what a client has received: a problem, or well-formed frames and a close code.

    Args:
        received: Everything, from the handshake's answer on.
        documented: The route's own close codes.

    Returns:
        The messages.
    """
    messages: list[Json] = []
    if not received:
        return messages
    head, _, rest = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if status != 101:
        assert 400 <= status < 500, received[:300]
        assert b"content-type: application/problem+json" in head.lower(), head
        return messages
    while rest:
        opcode, payload, rest = _next_frame(rest)
        if opcode is None:
            break  # the connection has ended within a frame
        if opcode == TEXT:
            messages.append(json.loads(payload))
        elif opcode == CLOSE:
            assert not rest, "nothing follows a close frame"
            code = struct.unpack("!H", payload[:2])[0] if payload else 1000
            assert code in documented | _PROTOCOL_ERRORS | _ECHOED, code
        else:
            assert opcode in {PING, PONG}, opcode
    return messages


def _next_frame(data: bytes) -> tuple[int | None, bytes, bytes]:
    if len(data) < 2:
        return None, b"", b""
    assert data[0] & 0xF0 == 0x80, "fragmented, or with reserved bits"
    assert not data[1] & 0x80, "a server masks nothing"
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4]), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10]), 10
    if len(data) < start + size:
        return None, b"", b""
    return data[0] & 0x0F, data[start : start + size], data[start + size :]
