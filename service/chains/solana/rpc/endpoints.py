"""All endpoints: reads from the best one, with failover; sends to all that take transactions."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service import crash_points
from service.background import Background, cancel
from service.chains.solana.rpc.answers import Answer, NotAnAnswerError
from service.chains.solana.rpc.endpoint import CALL_TIMEOUT_S, Endpoint, NewestSlot
from service.chains.solana.rpc.errors import METHOD_NOT_FOUND, MIN_SLOT_NOT_REACHED, NoAnswerError, RpcError
from service.chains.solana.rpc.urls import RpcUrl
from service.chains.solana.rpc.wire import Wire
from service.chains.solana.rpc.words import NodeWords
from service.chains.venue import VenueUnavailableError
from service.clock import Clock

log = logging.getLogger(__name__)

QUOTE_LAG_SLOTS = 20
"""An endpoint that is further behind is not read from."""

UP_TO_DATE_SLOTS = 5
"""An endpoint that is further behind is read from only if no other one answers."""

PROOF_LAG_SLOTS = 150
"""An endpoint that is further behind proves nothing."""

SEND_TIMEOUT_S = 3.0
REPEAT_TIMEOUT_S = 1.0
"""Of a repeated send: it must be over before the next one is due."""

_CHECK_EVERY_S = 5.0
_CHECK_TIMEOUT_S = 2.0
# When the next endpoint is asked as well: before two slots are over, unless the first one is usually slower.
_HEDGE_AFTER_S, _LONGEST_HEDGE_S = 0.25, 1.0
_USUAL_LATENCIES = 2
_TWO_SLOTS_S = 0.4

Outcome = Answer | RpcError | NoAnswerError

Parse = Callable[[Answer], Any]
"""Returns what an answer holds, and raises ``NotAnAnswerError`` if it cannot be used."""


class Endpoints:
    """The endpoints of one cluster.

    Attributes:
        all: All of them, also those that turn out to belong to another cluster, which are not read from.
        genesis_hash: The cluster's; None: it is not known before the first endpoint says it.

    Args:
        urls: As configured, the preferred ones first.
        clock: Measures time.
        genesis_hash: The cluster's; None: that of the first endpoint that says it.
        websocket: The URL of the WebSocket, whose key no node's words may show either; None: it has none.
    """

    def __init__(
        self,
        urls: Sequence[RpcUrl],
        clock: Clock,
        genesis_hash: str | None = None,
        websocket: RpcUrl | None = None,
    ) -> None:
        self._clock = clock
        self.wire = Wire(clock)
        self._newest = NewestSlot()
        self.genesis_hash = genesis_hash
        self._comparing: dict[Endpoint, asyncio.Task[None]] = {}
        self._heard_of: set[Endpoint] = set()
        words = NodeWords(urls if websocket is None else (*urls, websocket))
        self.all = tuple(Endpoint(url, self.wire, clock, self._newest, words) for url in urls)
        self._checks = Background("rpc endpoints", self._check_forever, clock)

    async def start(self) -> None:
        """Open the client, look at every endpoint, and keep looking."""
        self.wire.start()
        await self.check()
        self._checks.start()

    async def stop(self) -> None:
        """Close the client."""
        await self._checks.stop()
        await cancel(self._comparing.values())
        await self.wire.stop()

    @property
    def readers(self) -> tuple[Endpoint, ...]:
        """The endpoints that are read from, whatever their state; a proof asks them one by one."""
        return tuple(each for each in self.all if each.reads)

    @property
    def senders(self) -> tuple[Endpoint, ...]:
        """The endpoints for transactions; one of another cluster is sent none."""
        return tuple(each for each in self.all if each.sends)

    @property
    def newest_slot(self) -> int:
        """The newest processed slot that any endpoint has answered from; 0: none yet."""
        return self._newest.slot

    def calls(self) -> Counter[str]:
        """Return how many calls were made, by method."""
        return sum((each.calls for each in self.all), Counter())

    async def read(
        self,
        method: str,
        params: Sequence[Any],
        *,
        min_slot: int | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        parse: Parse | None = None,
    ) -> Answer:
        """Read from the best endpoint; if it does not answer, from the next one.

        Args:
            method: The method's name.
            params: Its parameters.
            min_slot: An answer from an older state, or one that does not say from which, is not accepted.
            timeout_s: For each endpoint.
            parse: Checks the answer, and replaces its result; what it refuses counts as no answer.

        Raises:
            RpcError: The call was refused, and not for the state of a node.
            VenueUnavailableError: No endpoint answered.
        """
        call = _Read(method, params, min_slot, timeout_s, parse)
        outcomes = await self._ask(call)
        if not isinstance(outcomes, Answer) and any(_is_too_old(each) for each in outcomes):
            # It exists already, or soon will.
            await self._clock.sleep(_TWO_SLOTS_S)
            outcomes = await self._ask(call)
        if isinstance(outcomes, Answer):
            return outcomes
        refusals = [each for each in outcomes if isinstance(each, RpcError) and not each.is_of_the_node]
        if refusals and len(refusals) == len(outcomes):
            raise refusals[0]
        reasons = (
            "; ".join(str(each) for each in outcomes)
            or "every endpoint is too far behind, or of another cluster"
        )
        raise VenueUnavailableError(f"{method}: {reasons}")

    async def send(
        self, method: str, params: Sequence[Any], *, timeout_s: float = SEND_TIMEOUT_S
    ) -> tuple[Outcome, ...]:
        """Make a call at all senders at once; return what came of each, in their order.

        One that has not said to which cluster it belongs, or whose connection broke since, is asked before;
        none of another cluster is called.
        """
        return tuple(
            await asyncio.gather(*(self._send(each, method, params, timeout_s) for each in self.senders))
        )

    async def _send(
        self, endpoint: Endpoint, method: str, params: Sequence[Any], timeout_s: float
    ) -> Outcome:
        began = self._clock.monotonic()
        if not endpoint.compared:
            await self._compare(endpoint, timeout_s)
        if endpoint.foreign or not endpoint.compared:
            what = "belongs to another cluster" if endpoint.compared else "has not said its cluster"
            return NoAnswerError(endpoint.name, f"it {what}")
        left_s = timeout_s - (self._clock.monotonic() - began)
        crash_points.reach("before send")
        outcome = await _outcome(endpoint, method, params, max(0.0, left_s))
        crash_points.reach("after send")
        return outcome

    async def check(self) -> None:
        """Ask every reader for its slot and its health, and compare them; new ones for their cluster."""
        await self._check_clusters()
        readers = self.readers
        slots = await asyncio.gather(
            *(_outcome(each, "getSlot", [{"commitment": "processed"}], _CHECK_TIMEOUT_S) for each in readers)
        )
        answered = [each for each, outcome in zip(readers, slots, strict=True) if isinstance(outcome, Answer)]
        self._newest.slot = max(
            (each.slot for each in answered if not each.foreign), default=self.newest_slot
        )
        for each in answered:
            each.note_lag(self.newest_slot)
        # A node that is alone knows itself whether it is behind.
        await asyncio.gather(*(_outcome(each, "getHealth", [], _CHECK_TIMEOUT_S) for each in readers))

    async def _check_clusters(self) -> None:
        """Ask the endpoints that have not said it, or were away, for the genesis hash of their cluster."""
        # If it is not known which cluster is meant, the first endpoint to read from decides.
        new = sorted((each for each in self.all if not each.compared), key=lambda each: not each.reads)
        found = await asyncio.gather(*(each.genesis_hash(timeout_s=_CHECK_TIMEOUT_S) for each in new))
        for each, genesis_hash in zip(new, found, strict=True):
            self._note_cluster(each, genesis_hash)

    async def _compare(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Compare an endpoint's cluster with the one that is meant; all who ask at once share the call."""
        task = self._comparing.get(endpoint)
        if task is None:
            task = asyncio.create_task(self._find_cluster(endpoint), name="rpc comparing")
            task.add_done_callback(lambda _: self._comparing.pop(endpoint))
            self._comparing[endpoint] = task
        await asyncio.wait([task], timeout=timeout_s)

    async def _find_cluster(self, endpoint: Endpoint) -> None:
        found = await endpoint.genesis_hash(timeout_s=_CHECK_TIMEOUT_S, before_send=True)
        self._note_cluster(endpoint, found)

    def _note_cluster(self, endpoint: Endpoint, found: str | None) -> None:
        if endpoint.reads:
            self.genesis_hash = self.genesis_hash or found
        if found is None or self.genesis_hash is None:
            if endpoint not in self._heard_of:
                self._heard_of.add(endpoint)
                log.warning("solana: %s has not said its cluster, and is not used until then", endpoint.name)
            return
        self._heard_of.add(endpoint)
        endpoint.compared, endpoint.foreign = True, found != self.genesis_hash
        if endpoint.foreign:
            fault = f"cluster of {endpoint.name}"
            log.warning(
                "solana: %s belongs to another cluster and is not used", endpoint.name, extra={"fault": fault}
            )

    async def _check_forever(self) -> None:
        while True:
            await self._clock.sleep(_CHECK_EVERY_S)
            await self.check()

    def _candidates(self) -> list[Endpoint]:
        fit = [each for each in self.readers if each.lag <= QUOTE_LAG_SLOTS and not each.foreign]
        return sorted(
            fit,
            key=lambda each: (
                not each.ready,
                each.lag > UP_TO_DATE_SLOTS,
                each.failures,
                each.latency_s,
            ),
        )

    async def _ask(self, call: "_Read") -> Answer | list[RpcError | NoAnswerError]:
        """Ask one endpoint after the other; return the first good answer, or what came instead."""
        failed: list[RpcError | NoAnswerError] = []
        ended: list[Outcome] = []
        waiting = self._candidates()
        hedge_s = _HEDGE_AFTER_S
        running: set[asyncio.Task[None]] = set()

        async def ask(endpoint: Endpoint) -> None:
            ended.append(await call.outcome(endpoint))

        try:
            while waiting or running:
                if waiting:
                    endpoint = waiting.pop(0)
                    hedge_s = _hedge_after_s(endpoint)
                    running.add(asyncio.create_task(ask(endpoint), name=f"rpc {call.method}"))
                done, running = await asyncio.wait(
                    running,
                    timeout=hedge_s if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    task.result()
                for outcome in ended:
                    if isinstance(outcome, Answer):
                        return outcome
                    failed.append(outcome)
                    if isinstance(outcome, RpcError) and _is_final(outcome):
                        return [outcome]
                ended.clear()
        finally:
            await cancel(running)
        return failed


async def _outcome(endpoint: Endpoint, method: str, params: Sequence[Any], timeout_s: float) -> Outcome:
    try:
        return await endpoint.call(method, params, timeout_s=timeout_s)
    except (RpcError, NoAnswerError) as error:
        return error


@dataclass(frozen=True, slots=True)
class _Read:
    """A call that reads, and what its answer has to be."""

    method: str
    params: Sequence[Any]
    min_slot: int | None
    timeout_s: float
    parse: Parse | None

    async def outcome(self, endpoint: Endpoint) -> Outcome:
        """Make the call; an answer that cannot be used is none."""
        outcome = await _outcome(endpoint, self.method, self.params, self.timeout_s)
        if not isinstance(outcome, Answer):
            return outcome
        if self.min_slot is not None and (outcome.slot is None or outcome.slot < self.min_slot):
            return RpcError(MIN_SLOT_NOT_REACHED, f"{endpoint.name}: answered from slot {outcome.slot}")
        if endpoint.lag > QUOTE_LAG_SLOTS:
            return NoAnswerError(endpoint.name, f"{endpoint.lag} slots behind")
        if self.parse is None:
            return outcome
        try:
            return replace(outcome, result=self.parse(outcome))
        except NotAnAnswerError as error:
            endpoint.reject()
            return NoAnswerError(endpoint.name, str(error))


def _hedge_after_s(endpoint: Endpoint) -> float:
    return max(_HEDGE_AFTER_S, min(_USUAL_LATENCIES * endpoint.latency_s, _LONGEST_HEDGE_S))


def _is_final(error: RpcError) -> bool:
    """Whether every node would refuse the call in this way."""
    return not error.is_of_the_node and error.code != METHOD_NOT_FOUND


def _is_too_old(outcome: RpcError | NoAnswerError) -> bool:
    return isinstance(outcome, RpcError) and outcome.code == MIN_SLOT_NOT_REACHED
