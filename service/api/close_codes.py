"""The codes with which the service closes WebSockets: one table, for the code and for the documents."""

from aiohttp import WSCloseCode

UNAUTHORIZED = 4001
"""The client's API key has expired or was revoked."""

SILENT = 4002
"""Nothing was received from the client for too long."""

TOO_SLOW = 4008
"""The client reads its messages too slowly."""

POSITION_GONE = 4010
"""The stream cannot resume from the client's position."""

CLOSE_CODES: dict[int, str] = {
    int(WSCloseCode.OK): "After the terminal status of an order: there is nothing more to send.",
    int(WSCloseCode.INTERNAL_ERROR): "After an internal error: connect again.",
    int(WSCloseCode.SERVICE_RESTART): "The service stops or restarts: connect again.",
    UNAUTHORIZED: "The API key has expired or was revoked.",
    SILENT: "Nothing was received from the client for 60 s, not even a pong: connect again.",
    TOO_SLOW: "The client has not read its messages for 10 s (it may see 1006): connect again.",
    POSITION_GONE: "The position in `from` is older than 24 h, or from before PostgreSQL was restored or "
    "replaced: connect without it, and list the orders.",
}
"""When each code is sent, and what the client should do, in Markdown."""


def close_code_table() -> str:
    """Return all close codes as a table in Markdown."""
    rows = [f"| `{code}` | {when} |" for code, when in CLOSE_CODES.items()]
    return "\n".join(["| Code | When |", "| --- | --- |", *rows])
