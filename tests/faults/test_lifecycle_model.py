"""Compares the real store and execution with a simple model of an order's life.

Two processes share a database and a venue. Each call of the venue waits until the test has chosen its
response, so a crash, a takeover or a landing can happen between any two steps. After each step the tables
must match the model.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.amm import ChainTime, CpmmPool
from service.chains.venue import (
    OnMarketChange,
    PoolRef,
    PoolView,
    Snapshot,
    Swap,
    Traded,
    VenueUnavailableError,
)
from service.clock import Clock
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Dex
from service.domain.tokens import Token
from service.domain.transaction import Fill, SignedTransaction, TransactionState, TransactionStatus
from service.execution.engine import Engine, ExecutionSettings
from service.execution.retry import RetryPolicy
from service.postgres.database import UnavailableError
from service.postgres.queries import Query, Row
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from tests.support import report
from tests.support.clock import ManualClock
from tests.support.servers import TestServers
from tests.support.store import Store, open_store

MAX_RETRIES = 2
VALID_SLOTS = 3

_A_DAY_MS = 86_400_000

_ENDED = {"confirmed", "failed"}

_READ: Query[Row] = Query(
    "read_model",
    "SELECT o.id::text, o.status, o.version, o.attempts, p.owner::text, o.tx_hash,"
    " (SELECT jsonb_agg(e ->> 'status') FROM jsonb_array_elements(o.status_history) AS e),"
    " (SELECT jsonb_agg(a.id ORDER BY a.sequence) FROM transactions AS a WHERE a.order_id = o.id)"
    " FROM orders AS o LEFT JOIN open_orders AS p ON p.order_id = o.id WHERE o.id = ANY(%(ids)s::uuid[])",
)

_SILENCE: Query[Row] = Query(
    "silence",
    "UPDATE instances SET seen_at = '-infinity' WHERE id = %(id)s",
)

_WRITES = {"insert_orders", "claim_orders", "append_transitions"}

_POOL = Snapshot(
    PoolRef("pool", Dex.RAYDIUM, "SOL", "USDC"),
    CpmmPool(10**13, 10**12, trade_fee_rate=2_500),
    ChainTime(1_800_000_000, 1),
)

_order: ContextVar[str] = ContextVar("order")


@dataclass(eq=False)
class Call:
    """A call of the venue that waits for its response."""

    process: "Process"
    kind: str
    order_id: str
    attempt: SignedTransaction | None
    answer: asyncio.Future[Any]


class Chain:
    """The actual state of transactions, independent of the engine's knowledge."""

    def __init__(self) -> None:
        self.slot = 0
        self.states: dict[str, TransactionState] = {}
        self.failures: dict[str, FailureCode] = {}
        self.on_the_way: list[SignedTransaction] = []
        self.seen: dict[str, tuple[str, SignedTransaction]] = {}

    def arrive(self, attempt: SignedTransaction) -> None:
        """Store a transaction, unless it exists or is too late."""
        if attempt.id not in self.states and self.slot <= attempt.last_valid_height:
            self.states[attempt.id] = TransactionState.PENDING

    def ask(self, attempt: SignedTransaction) -> TransactionStatus:
        """Return a transaction's state; one that can no longer land becomes expired."""
        state = self.states.get(attempt.id, TransactionState.UNKNOWN)
        if self.slot > attempt.last_valid_height and state in {
            TransactionState.UNKNOWN,
            TransactionState.PENDING,
        }:
            state = self.states[attempt.id] = TransactionState.EXPIRED
        if state is TransactionState.LANDED:
            return TransactionStatus(state, fill=Fill(attempt.maximum_in, attempt.minimum_out, attempt.id))
        if state is TransactionState.FAILED:
            return TransactionStatus(state, failure=Failure.of(self.failures[attempt.id]))
        return TransactionStatus(state)

    def fail(self, attempt: SignedTransaction, code: FailureCode) -> None:
        """Let a transaction fail, if it is not final."""
        if self.states.get(attempt.id, TransactionState.PENDING) is TransactionState.PENDING:
            self.states[attempt.id] = TransactionState.FAILED
            self.failures[attempt.id] = code

    def pending(self) -> list[SignedTransaction]:
        """Return the transactions that can land now."""
        return [
            attempt
            for _order_id, attempt in self.seen.values()
            if self.states.get(attempt.id) is TransactionState.PENDING
            and self.slot <= attempt.last_valid_height
        ]


class Venue:
    """One process's access to the chain. Implements the market data and the execution of a venue."""

    slot_ms = 1_000

    def __init__(self, process: "Process") -> None:
        self._process = process
        self.outcomes_take_long = process.slow

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:  # noqa: ARG002 - as every venue's
        return [_POOL.pool]

    def snapshot(self, pools: Sequence[PoolRef]) -> Awaitable[Sequence[Snapshot]]:  # noqa: ARG002
        return self._call("snapshot", None)

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:  # noqa: ARG002
        return [_POOL]

    async def refresh(self) -> bool:
        return False

    def on_change(self, callback: OnMarketChange) -> None:
        """Ignored: no order here waits for a price."""

    async def traded_since(self, seconds: int) -> Sequence[Traded]:  # noqa: ARG002
        return []

    def all_views(self) -> tuple[int, Sequence[PoolView]]:
        return self._process.harness.chain.slot, []

    def views(self, _pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        return []

    def tokens(self) -> Sequence[Token]:
        return []

    async def fetch_tokens(self, names: Collection[str]) -> None:
        pass

    async def prepare(self, swap: Swap) -> SignedTransaction:
        await self._call("prepare", None)
        harness = self._process.harness
        attempt = SignedTransaction(
            id=f"{swap.order_id}/{len(harness.chain.seen)}",
            dex=swap.route.dex,
            raw=b"signed",
            maximum_in=swap.maximum_in,
            minimum_out=swap.minimum_out,
            last_valid_height=harness.chain.slot + VALID_SLOTS,
        )
        harness.chain.seen[attempt.id] = (swap.order_id, attempt)
        return attempt

    async def submit(self, attempt: SignedTransaction) -> TransactionStatus:
        answer: TransactionStatus = await self._call("submit", attempt)
        return answer

    async def status(self, attempt: SignedTransaction) -> TransactionStatus:
        answer: TransactionStatus = await self._call("status", attempt)
        return answer

    async def outcome(self, attempt: SignedTransaction, timeout_s: float) -> TransactionStatus:  # noqa: ARG002
        answer: TransactionStatus = await self._call("outcome", attempt)
        return answer

    async def _call(self, kind: str, attempt: SignedTransaction | None) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = Call(self._process, kind, _order.get(), attempt, answer)
        self._process.harness.calls.append(call)
        try:
            return await answer
        finally:
            with suppress(ValueError):
                self._process.harness.calls.remove(call)


class _Impatient(Clock):
    """The store's clock: retries of writes do not wait."""

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002
        await asyncio.sleep(0)


class Process:
    """A process: a store, an engine, and the tasks it runs.

    Of a slow process the venue's outcomes take long: it waits for all of them in the background.
    """

    def __init__(self, harness: "EngineHarness", *, slow: bool) -> None:
        self.harness = harness
        self.slow = slow
        self.store = Store(harness.store.database, _Impatient(), harness.store.rate_limit)
        self.tasks: set[asyncio.Task[None]] = set()
        venue = Venue(self)
        self.engine = Engine(
            journal=self.store.journal,
            claims=self.store.claims,
            orders=self.store.orders,
            venue=venue,
            quoter=Quoter(venue, timeout_ms=_A_DAY_MS, limits=RouteLimits(), clock=harness.clock),
            clock=harness.clock,
            settings=ExecutionSettings(RetryPolicy(MAX_RETRIES, 0, 10_000), _A_DAY_MS),
            queue=self.store.queue,
        )

    @property
    def id(self) -> str:
        return self.store.identity.id

    def execute(self, order_id: str) -> None:
        """Execute an order, as a job does."""
        token = _order.set(order_id)
        task = asyncio.get_running_loop().create_task(self.engine.execute(order_id))
        _order.reset(token)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def die(self) -> None:
        """Cancel every task."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.engine.cancel_running()
        # Statements already passed to the driver may still be executed.
        await self.store.journal.stop()
        await self.store.claims.stop()


class EngineHarness:
    """The event loop and the database of all examples; the chain, the clock and the calls of one."""

    def __init__(self, servers: TestServers) -> None:
        self.runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.store: Store = self.runner.run(self._stack.enter_async_context(open_store(servers)))
        self.orders = self.steps = 0
        self.losses: list[bool] = []
        self._lose_answers()
        self.begin()

    def begin(self) -> None:
        """Begin an example, without any state of the previous one."""
        self.chain = Chain()
        self.clock = ManualClock()
        self.calls: list[Call] = []
        self.losses.clear()
        self.processes = [Process(self, slow=False), Process(self, slow=True)]
        for process in self.processes:
            self.run(process.store.instances.register())

    def _lose_answers(self) -> None:
        """Apply ``losses`` to writes of orders: each loses a response, after the commit or before it."""
        run = self.store.database.run

        async def run_or_lose(query: Query[Any], parameters: Mapping[str, Any] | None = None) -> list[Row]:
            if not self.losses or query.name not in _WRITES:
                return await run(query, parameters)
            if self.losses.pop():
                await run(query, parameters)
            raise UnavailableError("the answer was lost", unknown=True)

        self.store.database.run = run_or_lose  # type: ignore[method-assign, assignment]

    def run(self, work: Awaitable[Any]) -> Any:
        """Run a coroutine, then let everything run until it waits for the test."""
        return self.runner.run(self._run(work))

    async def _run(self, work: Awaitable[Any]) -> Any:
        result = await work
        while self._busy():  # noqa: ASYNC110 - what is waited for is inside the engine
            await asyncio.sleep(0.0002)
        return result

    def _busy(self) -> bool:
        alive = sum(len(p.tasks) + p.engine._running.in_background for p in self.processes)
        asking = sum(not call.answer.done() for call in self.calls)
        asleep = sum(not future.done() for _at, future in self.clock._sleepers)
        return alive != asking + asleep

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()


def _take(chain: Chain, attempt: SignedTransaction) -> TransactionStatus:
    chain.arrive(attempt)
    return chain.ask(attempt)


def _take_and_say_nothing(chain: Chain, attempt: SignedTransaction) -> None:
    chain.arrive(attempt)


def _take_later(chain: Chain, attempt: SignedTransaction) -> None:
    chain.on_the_way.append(attempt)


def _refuse(chain: Chain, attempt: SignedTransaction) -> TransactionStatus:
    chain.fail(attempt, FailureCode.TRANSACTION_REJECTED)
    return chain.ask(attempt)


_SUBMITS: tuple[Callable[[Chain, SignedTransaction], TransactionStatus | None], ...] = (
    _take,
    _take_and_say_nothing,
    _take_later,
    _refuse,
    # Accepted but lost; not arrived.
    lambda _chain, _attempt: TransactionStatus(TransactionState.UNKNOWN),
    lambda _chain, _attempt: None,
)
"""The possible results of a submission: a response, or none."""


@dataclass
class ModelOrder:
    """The model's state of an order."""

    walk: list[str] = field(default_factory=lambda: ["pending"])
    owner: str | None = None
    attempts: int = 0
    tx_hash: str | None = None
    transactions: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.walk[-1]


@dataclass
class Run:
    """A process's execution of an order: the process's id, and the version of the order that it knows."""

    owner: str
    version: int
    status: str


class Lifecycle(RuleBasedStateMachine):
    """Places orders, and applies every possible event to them."""

    harness: ClassVar[EngineHarness]

    def __init__(self) -> None:
        super().__init__()
        self.lives: dict[str, ModelOrder] = {}
        self.runs: dict[tuple[Process, str], Run] = {}
        self.harness.begin()
        self.registered = {process.id for process in self.harness.processes}
        self.heard_of = set(self.registered)

    # The events.

    @precondition(lambda self: len(self.lives) < 3)
    @rule()
    def place(self) -> None:
        order_id = self.harness.run(self.harness.processes[0].store.insert())
        self.lives[order_id] = ModelOrder()
        self.harness.orders += 1

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 10**6), process=st.integers(0, 1), times=st.integers(1, 2))
    def deliver(self, which: int, process: int, times: int) -> None:
        """A wake-up arrives once or twice, with or without work to do."""
        self._deliver(self.harness.processes[process], _pick(list(self.lives), which), times)

    @precondition(lambda self: self.harness.calls)
    @rule(which=st.integers(0, 10**6), how=st.integers(0, 10**6))
    def answer(self, which: int, how: int) -> None:
        self._answer(_pick(self.harness.calls, which), how)

    @precondition(lambda self: self.lives)
    @rule(which=st.integers(0, 10**6), process=st.integers(0, 1), steps=st.integers(1, 4))
    def go_on(self, which: int, process: int, steps: int) -> None:
        """An order proceeds for some steps without failures."""
        order_id = _pick(list(self.lives), which)
        self._deliver(self.harness.processes[process], order_id, 1)
        for _ in range(steps):
            for call in [call for call in self.harness.calls if call.order_id == order_id]:
                self._answer(call, 0)

    @precondition(lambda self: self.harness.calls)
    @rule(which=st.integers(0, 10**6), how=st.integers(0, 10**6))
    def answer_and_die(self, which: int, how: int) -> None:
        """The process dies while it writes a response: the write is durable, or not."""
        call = _pick(self.harness.calls, which)
        before = {order_id: _copy(life) for order_id, life in self.lives.items()}
        give = self._expect(call, how)

        async def answer_and_die() -> None:
            give()
            for _ in range(how % 4):
                await asyncio.sleep(0)
            await call.process.die()

        self.harness.run(answer_and_die())
        rows = self._read()
        for order_id, life in before.items():
            if rows[order_id][2] == len(life.walk):
                self.lives[order_id] = life
        self._remove_dead(call.process)

    def _die(self, process: int) -> None:
        dying = self.harness.processes[process]
        self.harness.run(dying.die())
        self._remove_dead(dying)

    @precondition(lambda self: self.harness.calls)
    @rule(
        which=st.integers(0, 10**6),
        how=st.integers(0, 10**6),
        losses=st.lists(st.booleans(), min_size=1, max_size=3),
    )
    def answer_and_lose_answers(self, which: int, how: int, losses: list[bool]) -> None:
        """PostgreSQL's next responses are lost, after the commit (True) or before it, without effect."""
        self.harness.losses[:] = losses
        self._answer(_pick(self.harness.calls, which), how)

    def _fall_silent(self, process: int) -> None:
        """A process's heartbeat is too old, but it has not been declared dead yet."""
        silent = self.harness.processes[process].id
        self.heard_of.discard(silent)
        self.harness.run(self.harness.store.database.run(_SILENCE, {"id": silent}))

    def _be_taken_for_dead(self, process: int) -> None:
        """A live process that was stopped is declared dead, and does not know it yet."""
        victim, judge = self.harness.processes[process], self.harness.processes[1 - process]
        self.registered.discard(victim.id)
        self.heard_of.discard(victim.id)
        for life in self.lives.values():
            if life.owner not in self.registered:
                life.owner = None

        async def take_over() -> None:
            await victim.store.instances.leave()
            await judge.store.instances.release_orphans()

        self.harness.run(take_over())

    @rule(
        process=st.integers(0, 1),
        what=st.sampled_from(["die", "fall silent", "be taken for dead", "come back", "sweep"]),
    )
    def befall(self, process: int, what: str) -> None:
        match what:
            case "die":
                self._die(process)
            case "fall silent":
                self._fall_silent(process)
            case "be taken for dead":
                self._be_taken_for_dead(process)
            case "come back":
                self._come_back(self.harness.processes[process])
            case _:
                self._sweep(self.harness.processes[process])

    @precondition(lambda self: self.harness.chain.pending())
    @rule(which=st.integers(0, 10**6), fate=st.sampled_from(["land", "land", "fail", "reject"]))
    def execute(self, which: int, fate: str) -> None:
        chain = self.harness.chain
        attempt = _pick(chain.pending(), which)
        if fate == "land":
            chain.states[attempt.id] = TransactionState.LANDED
        else:
            failed = FailureCode.TRANSACTION_FAILED
            chain.fail(attempt, failed if fate == "fail" else FailureCode.TRANSACTION_REJECTED)

    @precondition(lambda self: self.harness.chain.on_the_way)
    @rule(which=st.integers(0, 10**6))
    def arrive(self, which: int) -> None:
        """A transaction sent long ago arrives: it may or may not be able to land."""
        attempt = _pick(self.harness.chain.on_the_way, which)
        self.harness.chain.on_the_way.remove(attempt)
        self.harness.chain.arrive(attempt)

    @rule(slots=st.integers(1, VALID_SLOTS + 1))
    def pass_slots(self, slots: int) -> None:
        self.harness.chain.slot += slots

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        """Executions that wait before polling the venue again poll it."""
        self._wait(seconds)

    # The invariants.

    @invariant()
    def the_tables_say_what_the_model_says(self) -> None:
        self.harness.steps += 1
        rows = self._read()
        for order_id, life in self.lives.items():
            _id, *row = rows[order_id]
            assert row == [
                life.status,
                len(life.walk),
                life.attempts,
                life.owner,
                life.tx_hash,
                life.walk,
                life.transactions or None,
            ]

    @invariant()
    def nothing_is_executed_twice_and_no_outcome_is_a_guess(self) -> None:
        chain = self.harness.chain
        for order_id, life in self.lives.items():
            states = [chain.states.get(attempt, TransactionState.UNKNOWN) for attempt in life.transactions]
            assert states.count(TransactionState.LANDED) <= 1
            if life.status == "confirmed":
                assert states[-1] is TransactionState.LANDED
            elif life.status != "submitted":
                assert TransactionState.LANDED not in states
            # A new attempt, a retry or a failure only if earlier transactions can never land.
            dead = states[:-1] if life.status in {"submitted", "confirmed"} else states
            assert set(dead) <= {TransactionState.FAILED, TransactionState.EXPIRED}
            sent = {attempt for attempt, (order, _) in chain.seen.items() if order == order_id}
            assert {attempt for attempt in sent if attempt in chain.states} <= set(life.transactions)

    def teardown(self) -> None:
        """After all faults are over, every order ends."""
        for process in self.harness.processes:
            self._come_back(process)
        for _ in range(200):
            for attempt in self.harness.chain.pending():
                self.harness.chain.states[attempt.id] = TransactionState.LANDED
            if self.harness.calls:
                self._answer(self.harness.calls[0], 0)
            elif all(life.status in _ENDED for life in self.lives.values()) and not self.runs:
                break
            else:
                for process in self.harness.processes:
                    self._sweep(process)
                self._wait(20)
                for order_id in self.lives:
                    self._deliver(self.harness.processes[0], order_id, 1)
            self.the_tables_say_what_the_model_says()
            self.nothing_is_executed_twice_and_no_outcome_is_a_guess()
        assert {life.status for life in self.lives.values()} <= _ENDED, self.lives
        for process in self.harness.processes:
            self.harness.run(process.die())
            self._check_what_was_told(process)

    # The implementation of the events, and the model's expectations.

    def _deliver(self, process: Process, order_id: str, times: int) -> None:
        life = self.lives[order_id]
        running = (process, order_id) in self.runs
        # A process that was declared dead gets no orders until it registers under a new id.
        may = process.id in self.registered and life.owner in {None, process.id}
        if not running and life.status not in _ENDED and may:
            if life.status == "pending":
                life.walk.append("routing")
                life.attempts += 1
            life.owner = process.id
            self.runs[process, order_id] = Run(process.id, len(life.walk), life.status)

        async def deliver() -> None:
            for _ in range(times):
                process.execute(order_id)

        self.harness.run(deliver())

    def _answer(self, call: Call, how: int) -> None:
        give = self._expect(call, how)

        async def answer() -> None:
            give()

        self.harness.run(answer())

    def _expect(self, call: Call, how: int) -> Callable[[], None]:
        """Choose a response, update the model, and return a function that delivers it; 0 is the best one."""
        self.harness.calls.remove(call)
        if call.attempt is None:
            return self._expect_before_sending(call, away=how % 4 == 3)
        if call.kind == "submit":
            status = _SUBMITS[how % len(_SUBMITS)](self.harness.chain, call.attempt)
        else:
            status = None if how % 4 == 3 else self.harness.chain.ask(call.attempt)
        if status is None:
            return lambda: call.answer.set_exception(VenueUnavailableError("the answer was lost"))
        if status.state is TransactionState.LANDED:
            if self._move(call, "confirmed"):
                self.lives[call.order_id].tx_hash = call.attempt.id
        elif status.final:
            rejected = status.failure and status.failure.code is FailureCode.TRANSACTION_REJECTED
            self._end_attempt(call, retry=not rejected)
        return lambda: call.answer.set_result(status)

    def _expect_before_sending(self, call: Call, *, away: bool) -> Callable[[], None]:
        run = self.runs[call.process, call.order_id]
        if away:
            self._end_attempt(call, retry=True)
            return lambda: call.answer.set_exception(VenueUnavailableError("away"))
        if call.kind == "snapshot":
            if run.status == "routing":
                self._move(call, "building")
            return lambda: call.answer.set_result([_POOL])
        if run.owner not in self.heard_of:
            # A process that may have been declared dead makes no new attempt.
            self._drop(call)
        elif self._move(call, "submitted"):
            self.lives[call.order_id].transactions.append(f"{call.order_id}/{len(self.harness.chain.seen)}")
        return lambda: call.answer.set_result(None)

    def _move(self, call: Call, status: str) -> bool:
        """Expect a step if the process still owns the order; otherwise that it stops executing it."""
        life, run = self.lives[call.order_id], self.runs[call.process, call.order_id]
        if (run.owner, run.version) != (life.owner, len(life.walk)):
            self._drop(call)
            return False
        life.walk.append(status)
        run.version, run.status = len(life.walk), status
        if status in {"pending", *_ENDED}:
            life.owner = None
            self._drop(call)
        return True

    def _end_attempt(self, call: Call, *, retry: bool) -> None:
        again = retry and self.lives[call.order_id].attempts <= MAX_RETRIES
        self._move(call, "pending" if again else "failed")

    def _drop(self, call: Call) -> None:
        del self.runs[call.process, call.order_id]

    def _release(self, owner: str) -> None:
        for life in self.lives.values():
            if life.owner == owner:
                life.owner = None

    def _remove_dead(self, dead: Process) -> None:
        """Expect that a dead process's orders are released, and replace it by a new process."""
        self._check_what_was_told(dead)
        place = self.harness.processes.index(dead)
        self._release(dead.id)
        self.runs = {key: run for key, run in self.runs.items() if key[0] is not dead}
        born = self.harness.processes[place] = Process(self.harness, slow=dead.slow)

        async def remove_dead() -> None:
            await born.store.instances.register()
            await dead.store.instances.leave()

        self.harness.run(remove_dead())
        self.registered = self.registered - {dead.id} | {born.id}
        self.heard_of = self.heard_of - {dead.id} | {born.id}

    def _come_back(self, back: Process) -> None:
        self._release(back.id)

        async def come_back() -> None:
            await back.store.instances.leave()
            back.store.identity.renew()
            await back.store.instances.register()

        self.harness.run(come_back())
        self.registered.add(back.id)
        self.heard_of.add(back.id)

    def _sweep(self, process: Process) -> None:
        for order_id, life in self.lives.items():
            idle = life.owner == process.id and (process, order_id) not in self.runs
            if idle:
                life.owner = None

        async def sweep() -> None:
            instances = process.store.instances
            await instances.release(await instances.find_idle(process.engine.running))

        self.harness.run(sweep())

    def _wait(self, seconds: int) -> None:
        self.harness.run(self.harness.clock.advance(seconds))

    def _check_what_was_told(self, process: Process) -> None:
        """Watchers received nothing that is not in the history."""
        for step in process.store.told:
            if step.order_id in self.lives:
                assert self.lives[step.order_id].walk[step.sequence - 1] == step.entry["status"]

    def _read(self) -> dict[str, tuple[Any, ...]]:
        rows = self.harness.run(self.harness.store.database.read(_READ, {"ids": list(self.lives)}))
        return {row[0]: row for row in rows}


def _pick(things: Sequence[Any], which: int) -> Any:
    return things[which % len(things)]


def _copy(life: ModelOrder) -> ModelOrder:
    return ModelOrder(list(life.walk), life.owner, life.attempts, life.tx_hash, list(life.transactions))


@pytest.fixture
def harness(servers: TestServers) -> Iterator[EngineHarness]:
    logging.getLogger("service").setLevel(logging.CRITICAL)
    harness = EngineHarness(servers)
    yield harness
    harness.close()
    logging.getLogger("service").setLevel(logging.NOTSET)


def _run_examples(harness: EngineHarness, examples: int, steps: int, *, repeatable: bool) -> None:
    Lifecycle.harness = harness
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=repeatable,
            suppress_health_check=list(HealthCheck),
        ),
    )
    report.add(
        report.Row(
            "the engine against a model of the lifecycle",
            examples,
            harness.orders,
            note=f"{harness.steps} steps",
        )
    )


def test_the_engine_matches_the_model(harness: EngineHarness) -> None:
    _run_examples(harness, 200, 30, repeatable=True)


@pytest.mark.long
def test_the_engine_matches_the_model_in_many_examples(harness: EngineHarness) -> None:
    _run_examples(harness, 5_000, 50, repeatable=False)
