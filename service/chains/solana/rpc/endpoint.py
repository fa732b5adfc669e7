"""One endpoint: calls within its budget, and what is known of it: slot, lag, latency, failures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from solders.hash import Hash, ParseHashError

from service.chains.solana.rpc.answers import Answer, NotAnAnswerError, call_bytes, read_answer
from service.chains.solana.rpc.budget import CallBudget
from service.chains.solana.rpc.circuit import Circuit
from service.chains.solana.rpc.errors import METHOD_NOT_FOUND, NODE_UNHEALTHY, NoAnswerError, RpcError
from service.chains.solana.rpc.urls import RpcUrl
from service.chains.solana.rpc.wire import Reply, Wire, WireError
from service.chains.solana.rpc.words import NodeWords
from service.clock import Clock

CALL_TIMEOUT_S = 5.0

# How much of the latency is the last call's.
_LATENCY_SHARE = 0.2
_SENDS = frozenset({"sendTransaction"})
_RATE_LIMIT_CODES = (429, -32429)
_TOO_MANY_REQUESTS = 429
_OK = 200
# Of a node that says that it is behind, and not how far.
_UNKNOWN_LAG = 1_000


class _Lane(NamedTuple):
    """Reads or sends: what one does to an endpoint must not stop the other."""

    budget: CallBudget
    circuit: Circuit


@dataclass(slots=True)
class NewestSlot:
    """The newest slot, at the commitment ``processed``, that any endpoint has answered from; 0: none yet.

    It is found anew at each look at all endpoints: one absurd answer does not count for ever.
    """

    slot: int = 0


class Endpoint:
    """One endpoint.

    Attributes:
        name: What logs and errors show: its host, numbered if others have the same one.
        slot: The slot that it last answered from, at the commitment ``processed``.
        foreign: Whether it belongs to another cluster, or has not said to which: nothing that it answers
            counts, and nothing is sent to it.
        compared: Whether it has said to which, and has not been away since.
        latency_s: How long it takes to answer, smoothed; 0 before the first answer.
        calls: How many calls it was sent, by method.
    """

    def __init__(self, url: RpcUrl, wire: Wire, clock: Clock, newest: NewestSlot, words: NodeWords) -> None:
        self._url = url
        self._words = words
        self._wire = wire
        self._clock = clock
        self._newest = newest
        self._reads, self._sends = (_Lane(CallBudget(clock, url.rps), Circuit(clock)) for _ in range(2))
        self._last_call = 0
        self.name = url.name
        self.slot = 0
        self.foreign = True
        self.compared = False
        self._measured_lag = 0
        self._reported_lag = 0
        self.latency_s = 0.0
        self.calls: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    @property
    def reads(self) -> bool:
        """Whether it is read from."""
        return self._url.reads

    @property
    def sends(self) -> bool:
        """Whether transactions are sent to it."""
        return self._url.sends

    @property
    def lag(self) -> int:
        """How many slots it is behind the newest that was known when it was asked, or says that it is."""
        return max(self._measured_lag, self._reported_lag)

    @property
    def failures(self) -> int:
        """How many reads in a row had no answer."""
        return self._reads.circuit.failures

    @property
    def ready(self) -> bool:
        """Whether a read would start at once."""
        return not self._reads.circuit.is_open and self._reads.budget.wait_s() == 0

    async def call(self, method: str, params: Sequence[Any], *, timeout_s: float = CALL_TIMEOUT_S) -> Answer:
        """Make a call, when its budget allows.

        Args:
            method: The method's name.
            params: Its parameters.
            timeout_s: For the turn and the answer together.

        Raises:
            RpcError: The node answered with an error.
            NoAnswerError: There is no usable answer. The call may have been executed.
        """
        return await self._call(method, params, timeout_s, self._sends if method in _SENDS else self._reads)

    async def _call(self, method: str, params: Sequence[Any], timeout_s: float, lane: _Lane) -> Answer:
        began = self._clock.monotonic()
        if not lane.circuit.admit():
            raise NoAnswerError(self.name, "not called, its last calls failed")
        if not await lane.budget.take(timeout_s):
            raise NoAnswerError(self.name, "not called, its calls per second are used up")
        left_s = timeout_s - (self._clock.monotonic() - began)
        if left_s <= 0:
            raise NoAnswerError(self.name, "not called, its calls per second are used up")
        known = self._newest.slot
        answer = await self._answer(method, params, lane, left_s)
        self._note_slot(method, params, answer, known)
        return answer

    async def genesis_hash(
        self, *, timeout_s: float = CALL_TIMEOUT_S, before_send: bool = False
    ) -> str | None:
        """Return the genesis hash of its cluster; None: it does not say.

        Args:
            timeout_s: For the turn and the answer together.
            before_send: Ask among the sends: failed reads must not hold it up.
        """
        lane = self._sends if before_send else self._reads
        try:
            answer = await self._call("getGenesisHash", [], timeout_s, lane)
        except (RpcError, NoAnswerError):
            return None
        try:
            return str(Hash.from_string(answer.result))
        except (ParseHashError, TypeError):
            return None

    def reject(self) -> None:
        """Count a read as a failure, after all: what it answered cannot be used."""
        self._reads.circuit.fail()

    def note_lag(self, newest: int) -> None:
        """Compare the slot that it has just answered from with the newest one that others have."""
        self._measured_lag = max(0, newest - self.slot)

    async def _answer(self, method: str, params: Sequence[Any], lane: _Lane, timeout_s: float) -> Answer:
        self._last_call += 1
        number = self._last_call
        self.calls[method] += 1
        began = self._clock.monotonic()
        try:
            reply = await self._wire.post(self._url.url, call_bytes(number, method, params), timeout_s)
            answer = self._read(reply, number, method, lane)
        except WireError as error:
            lane.circuit.fail()
            self.compared = self.compared and not error.disconnected
            raise NoAnswerError(self.name, str(error)) from None
        except RpcError as error:
            self._note_error(method, error, lane)
            message, data = self._words.shown(error.message), self._words.shown_data(error.data)
            raise RpcError(error.code, message, data) from None
        finally:
            # Also if the call was cancelled because another endpoint was faster.
            taken_s = self._clock.monotonic() - began
            self.latency_s += (taken_s - self.latency_s) * (_LATENCY_SHARE if self.latency_s else 1)
        lane.circuit.succeed()
        lane.budget.recover()
        return answer

    def _read(self, reply: Reply, number: int, method: str, lane: _Lane) -> Answer:
        if reply.status == _TOO_MANY_REQUESTS:
            lane.budget.pause(reply.retry_after_s)
            raise NoAnswerError(self.name, "too many calls (HTTP 429)")
        if reply.status != _OK:
            # Whatever the body says, a gateway may have written it: a wrong key is no answer of a node.
            lane.circuit.fail()
            raise NoAnswerError(self.name, f"HTTP {reply.status}")
        try:
            return read_answer(reply.body, number, method, self.name)
        except NotAnAnswerError as error:
            lane.circuit.fail()
            raise NoAnswerError(self.name, str(error)) from None

    def _note_error(self, method: str, error: RpcError, lane: _Lane) -> None:
        if error.is_failure:
            lane.circuit.fail()
        else:
            lane.circuit.succeed()
        if error.code in _RATE_LIMIT_CODES:
            lane.budget.pause(None)
        if error.code == NODE_UNHEALTHY:
            behind = error.data.get("numSlotsBehind") if isinstance(error.data, dict) else None
            self._reported_lag = behind if isinstance(behind, int) else _UNKNOWN_LAG
        elif method == "getHealth" and error.code == METHOD_NOT_FOUND:
            # It could never say that it is no longer behind.
            self._reported_lag = 0

    def _note_slot(self, method: str, params: Sequence[Any], answer: Answer, known: int) -> None:
        """Note the slot of a state that was processed; others are behind it by design."""
        if method == "getHealth":
            self._reported_lag = 0
        config = params[-1] if params and isinstance(params[-1], dict) else {}
        if config.get("commitment") != "processed":
            return
        slot = answer.result if method == "getSlot" else answer.slot
        if isinstance(slot, int):
            self.slot = slot
            if self.foreign:
                return
            self._measured_lag = max(0, known - slot)
            self._newest.slot = max(self._newest.slot, slot)
