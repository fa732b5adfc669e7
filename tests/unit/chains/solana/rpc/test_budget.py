"""Calls per second, the pauses after a 429, and the circuit after failures."""

import asyncio

from service.chains.solana.rpc.budget import CallBudget
from service.chains.solana.rpc.circuit import Circuit
from tests.support.clock import ManualClock, settle


async def test_a_second_holds_as_many_calls_as_are_allowed() -> None:
    clock = ManualClock()
    budget = CallBudget(clock, 4)
    begun: list[float] = []

    async def call() -> None:
        assert await budget.take(60)
        begun.append(clock.monotonic())

    calls = [asyncio.create_task(call()) for _ in range(10)]
    await settle()
    assert begun == [0] * 4
    await clock.advance(10)
    assert begun[4:] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
    await asyncio.gather(*calls)
    # What was not used in ten seconds is not saved beyond one second's calls.
    calls = [asyncio.create_task(call()) for _ in range(5)]
    await settle()
    assert len(begun) == 14
    await clock.advance(1)
    await asyncio.gather(*calls)


async def test_a_call_whose_turn_is_too_late_is_not_made() -> None:
    budget = CallBudget(ManualClock(), 1)
    assert await budget.take(0)
    assert not await budget.take(0.9)


async def test_after_a_429_nothing_is_called_for_as_long_as_the_endpoint_asks() -> None:
    clock = ManualClock()
    budget = CallBudget(clock, None)
    assert budget.wait_s() == 0
    budget.pause(7)
    assert budget.wait_s() == 7
    await clock.jump(3)
    # A shorter one does not end it.
    budget.pause(1)
    assert budget.wait_s() == 4
    await clock.jump(4)
    assert budget.wait_s() == 0
    budget.pause(None)
    assert budget.wait_s() == 1
    budget.pause(1e9)
    assert budget.wait_s() == 60


async def test_the_rate_shrinks_with_each_429_and_grows_with_answers() -> None:
    budget = CallBudget(ManualClock(), 80)
    rates = []
    for _ in range(5):
        budget.pause(0)
        rates.append(budget.rate)
    assert rates == [40, 20, 10, 10, 10]
    for _ in range(1_000):
        budget.recover()
    assert budget.rate == 80


async def test_the_circuit_opens_after_three_failures_for_longer_each_time() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    for _ in range(2):
        circuit.fail()
        assert circuit.admit()
    circuit.fail()
    pauses = []
    for _ in range(8):
        began = clock.monotonic()
        while not circuit.admit():
            await clock.jump(1)
        pauses.append(clock.monotonic() - began)
        # While one call tries, no other does.
        assert not circuit.admit()
        circuit.fail()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    circuit.succeed()
    assert circuit.admit()
    assert circuit.failures == 0


async def test_a_call_that_was_cancelled_does_not_keep_the_circuit_open() -> None:
    clock = ManualClock()
    circuit = Circuit(clock)
    for _ in range(3):
        circuit.fail()
    await clock.jump(1)
    assert circuit.admit()
    await clock.jump(1)
    assert circuit.admit()
