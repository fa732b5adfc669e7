"""What a call may end with instead of an answer.

``RpcError`` is an answer: the node understood the call and refused it. ``NoAnswerError`` says nothing about
the call: it may or may not have been executed. Neither shows more of an endpoint's URL than its name.
"""

from typing import Any

NODE_UNHEALTHY = -32005
METHOD_NOT_FOUND = -32601
MIN_SLOT_NOT_REACHED = -32016

# The node's state, not the call, is the reason: another node may answer.
_OF_THE_NODE = frozenset(
    {
        -32004,  # block not available
        NODE_UNHEALTHY,
        -32014,  # block status not yet available
        MIN_SLOT_NOT_REACHED,
        -32603,  # internal error
        -32429,  # some providers' own 429
        429,
    }
)


class RpcError(Exception):
    """A node's answer is an error.

    Attributes:
        code: The error's number.
        message: For people.
        data: What clients read, such as the error of a simulation; None if there is nothing.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data

    @property
    def is_of_the_node(self) -> bool:
        """Whether the reason is the node's state, so that another node may answer the same call."""
        return self.code in _OF_THE_NODE


class NoAnswerError(Exception):
    """There is no usable answer: no connection, a time-out, an error of HTTP, or not JSON-RPC.

    Attributes:
        endpoint: The endpoint's name.
        reason: Why, in a few words.
    """

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint = endpoint
        self.reason = reason
