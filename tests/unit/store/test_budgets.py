"""The rows with which an order is compared with its budgets, and counted."""

from dataclasses import replace

import orjson
import pytest

from service.domain.idempotency import IdempotencyKey
from service.domain.order import BudgetUse
from service.store.budgets import budget_row, used_columns
from tests.unit.domain.test_key_limits import SOL, order

LARGE = 10**30
BUDGET = BudgetUse("SOL", 9, SOL, LARGE, LARGE, 2**64 - 1, 5)


def test_what_is_counted() -> None:
    assert used_columns(BUDGET) == {"used_token": "SOL", "used_amount": SOL, "used_usd": str(LARGE)}
    only_value = BudgetUse("SOL", 9, usd=0, most_usd=1)
    assert used_columns(only_value) == {"used_token": "SOL", "used_amount": None, "used_usd": "0"}
    # An open order is counted by its row.
    assert used_columns(BudgetUse("SOL", 9, most_open=5)) == {}


def test_what_is_compared() -> None:
    placed = order(
        client_order_id="mine", idempotency=IdempotencyKey("once", b"hash"), key_id="key", budget=BUDGET
    )
    assert orjson.loads(orjson.dumps(budget_row(3, placed))) == {
        "place": 3,
        "id": placed.id,
        "account": "desk",
        "key_id": "key",
        "client_order_id": "mine",
        "idempotency_key": "once",
        "token": "SOL",
        "amount": SOL,
        "most_amount": str(LARGE),
        "usd": str(LARGE),
        "most_usd": 2**64 - 1,
        "most_open": 5,
    }
    assert budget_row(0, replace(placed, idempotency=None))["idempotency_key"] is None
    with pytest.raises(ValueError, match="no budget"):
        budget_row(0, replace(placed, budget=None))
