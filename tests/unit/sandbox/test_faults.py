"""Which requests take an armed fault."""

import random
from typing import Any

import pytest

from service.sandbox.faults import KINDS, Faults, InvalidFaultError


def test_a_fault_is_taken_as_many_times_as_it_says() -> None:
    faults = Faults(random.Random(1))
    faults.arm("drop", times=2)
    assert [faults.take("drop") is not None for _ in range(3)] == [True, True, False]
    faults.arm("drop", times=None)
    assert all(faults.take("drop") for _ in range(100))
    faults.clear()
    assert faults.take("drop") is None


def test_a_fault_fits_its_kind_and_its_method_only() -> None:
    faults = Faults(random.Random(1))
    faults.arm("slow", method="getSlot", delay_ms=5)
    assert faults.take("slow", "getHealth") is None
    assert faults.take("down", "getSlot") is None
    fault = faults.take("slow", "getSlot")
    assert fault is not None
    assert fault.number("delay_ms") == 5
    faults.arm("slow")
    faults.arm("down")
    faults.clear("slow")
    assert faults.standing("slow") is None
    assert faults.standing("down") is not None


def test_a_rate_is_kept_at_random_from_the_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults(random.Random(seed))
        faults.arm("drop", times=None, rate_ppm=300_000)
        return [faults.take("drop") is not None for _ in range(1_000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 250 < sum(drawn(1)) < 350


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("nonsense", {}),
        ("slow", {"slots": 1}),
        ("slow", {"delay_ms": "1"}),
        ("slow", {"delay_ms": True}),
        ("slow", {"times": 0}),
        ("slow", {"times": "1"}),
        ("slow", {"rate_ppm": 0}),
        ("slow", {"rate_ppm": 1_000_001}),
        ("slow", {"method": 1}),
        ("garbage", {"form": "pdf"}),
    ],
)
def test_what_is_no_fault_is_refused(kind: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidFaultError):
        Faults(random.Random(1)).arm(kind, **arguments)


def test_every_kind_can_be_armed_without_arguments() -> None:
    faults = Faults(random.Random(1))
    for kind in KINDS:
        faults.arm(kind)
        assert faults.take(kind) is not None
