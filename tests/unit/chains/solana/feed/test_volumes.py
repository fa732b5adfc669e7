"""What is taken for a trade between two reads, and what is not."""

import pytest

from service.chains.solana.feed.volumes import Volumes
from service.chains.venue import Traded


def test_swaps_in_one_direction_are_added_up_by_the_second() -> None:
    volumes = Volumes()
    assert volumes.add("p", 7, (100, 1_000), (110, 910)) == Traded("p", 7, 10, 90)
    assert volumes.add("p", 7, (110, 910), (115, 870)) == Traded("p", 7, 5, 40)
    volumes.add("q", 7, (50, 50), (40, 61))
    volumes.add("p", 9, (115, 870), (100, 1_000))
    assert volumes.since(6) == [Traded("p", 7, 15, 130), Traded("q", 7, 10, 11), Traded("p", 9, 15, 130)]
    assert volumes.since(7) == [Traded("p", 9, 15, 130)]


@pytest.mark.parametrize("after", [(100, 1_000), (110, 1_100), (90, 900), (110, 1_000), (100, 900)])
def test_liquidity_is_no_trade(after: tuple[int, int]) -> None:
    volumes = Volumes()
    assert volumes.add("p", 7, (100, 1_000), after) is None
    assert volumes.since(0) == []


def test_an_hour_is_kept() -> None:
    volumes = Volumes()
    for second in (0, 1, 3_600):
        volumes.add("p", second, (1, 1), (2, 0))
    assert [traded.second for traded in volumes.since(-1)] == [1, 3_600]
