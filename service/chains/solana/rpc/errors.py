"""What a call may end with instead of an answer.

``RpcError`` is an answer: the node understood the call and refused it. ``NoAnswerError`` says nothing about
the call: it may or may not have been executed. Neither shows more of an endpoint's URL than its name, nor
more of a node's words than a line.
"""

from typing import Any

NODE_UNHEALTHY = -32005
METHOD_NOT_FOUND = -32601
MIN_SLOT_NOT_REACHED = -32016

# Every node would refuse the call. All other errors are of a node, also those that only its provider knows.
_OF_THE_CALL = frozenset(
    {
        -32600,  # invalid request
        METHOD_NOT_FOUND,
        -32602,  # invalid parameters
        -32002,  # the preflight failed
        -32003,  # signature verification failed
        -32013,  # a signature has another length
        -32015,  # the transaction's version is not supported
    }
)
# What a node that works says of its state.
_OF_ITS_STATE = frozenset(
    {
        -32001,  # block cleaned up
        -32004,  # block not available
        NODE_UNHEALTHY,
        -32007,  # slot skipped
        -32009,  # slot skipped, or missing in the archive
        -32011,  # no transaction history
        -32014,  # block status not yet available
        MIN_SLOT_NOT_REACHED,
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
        """Whether the reason is the node, so that another one may answer the same call."""
        return self.code not in _OF_THE_CALL

    @property
    def is_failure(self) -> bool:
        """Whether the node, or its provider, does not work: no reason that a working one gives."""
        return self.is_of_the_node and self.code not in _OF_ITS_STATE


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
