"""How a balance is divided."""

import pytest

from service.chains.venue import Balance


@pytest.mark.parametrize(
    ("in_flight", "reserve", "expected"),
    [
        (0, 0, Balance(10)),
        (4, 0, Balance(6, 4)),
        (4, 5, Balance(1, 4, 5)),
        # What may leave the wallet comes first, and no part is negative.
        (4, 9, Balance(0, 4, 6)),
        (11, 1, Balance(0, 10, 0)),
    ],
)
def test_the_parts_of_a_balance_are_all_of_it(in_flight: int, reserve: int, expected: Balance) -> None:
    balance = Balance.of(10, in_flight=in_flight, reserve=reserve)
    assert balance == expected
    assert balance.total == 10
