"""Limits of a transaction from its simulation."""

from typing import Any

import pytest

from service.chains.solana.builder import MAX_COMPUTE_UNITS, MAX_LOADED_BYTES, ComputeBudget
from service.chains.solana.errors import failure_of
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.simulation import MalformedSimulationError, Simulation, read_simulation
from service.domain.failures import FailureCode

PROGRAMS = [MAINNET.raydium_cpmm]
PAGE = 32 * 1024


def simulated(units: int = 100_000, loaded: int | None = 3_000_000) -> Simulation:
    return read_simulation({"err": None, "unitsConsumed": units, "loadedAccountsDataSize": loaded}, PROGRAMS)


def test_the_limits_are_what_it_used_with_a_margin() -> None:
    assert simulated().budget(9) == ComputeBudget(120_000, 101 * PAGE, 9)
    assert 100 * PAGE < 3_300_000 <= 101 * PAGE


def test_compute_units_are_rounded_up_and_loaded_bytes_to_whole_pages() -> None:
    assert simulated(units=1).budget(0).compute_units == 2
    assert simulated(loaded=1).budget(0).loaded_bytes == PAGE
    assert simulated(loaded=10 * PAGE).budget(0).loaded_bytes == 11 * PAGE
    assert simulated(loaded=10 * PAGE + 1).budget(0).loaded_bytes == 12 * PAGE


def test_the_limits_are_within_the_networks() -> None:
    budget = simulated(units=1_399_999, loaded=64 * 1024 * 1024).budget(0)
    assert (budget.compute_units, budget.loaded_bytes) == (MAX_COMPUTE_UNITS, MAX_LOADED_BYTES)
    assert simulated(units=0).budget(0).compute_units == 1


@pytest.mark.parametrize("unknown", [None, 0, "7", -1])
def test_loaded_bytes_that_are_not_told_are_sixteen_megabytes(unknown: Any) -> None:
    assert simulated(loaded=unknown).budget(0).loaded_bytes == 16 * 1024 * 1024


def test_an_error_is_a_failure_of_the_order() -> None:
    found = read_simulation(
        {"err": {"InstructionError": [0, {"Custom": 6005}]}, "unitsConsumed": 9}, PROGRAMS
    )
    assert found.error is not None
    assert failure_of(found.error, MAINNET).code is FailureCode.SLIPPAGE_EXCEEDED
    refused = read_simulation({"err": "InsufficientFundsForFee"}, PROGRAMS)
    assert refused.error is not None
    assert refused.error.name == "InsufficientFundsForFee"


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"err": None},
        {"err": None, "unitsConsumed": None},
        {"err": None, "unitsConsumed": "9"},
        {"err": 7, "unitsConsumed": 9},
        {"err": {"InstructionError": [1, {"Custom": 6005}]}, "unitsConsumed": 9},
    ],
)
def test_an_answer_that_does_not_tell_it_is_refused(value: Any) -> None:
    with pytest.raises(MalformedSimulationError):
        read_simulation(value, PROGRAMS)
