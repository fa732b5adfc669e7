"""Which new orders are compared with the wallet, and which of those it cannot pay."""

import asyncio
from typing import Any, cast

import pytest

from service.api.funds import FundsCheck
from service.api.problems import InsufficientBalanceError, problem_json
from service.chains.venue import Balance, VenueUnavailableError, Wallet
from service.domain.order import OrderType, Terms
from tests.unit.domain.test_key_limits import BUYING, SOL, order

RESTS = {"order_type": OrderType.LIMIT, "terms": Terms(100, "GTC", "200", 1)}
AT_ONCE = {"order_type": OrderType.LIMIT, "terms": Terms(100, "IOC", "200", 1)}


class Purse:
    """A wallet with SOL; of JUP it has plenty. It counts how often it is read."""

    def __init__(self, free: int, error: Exception | None = None) -> None:
        self.free = free
        self.error = error
        self.reads = 0

    def is_unlimited(self, token: str) -> bool:
        return token == "JUP"

    async def balance(self, token: str) -> Balance:
        assert token == "SOL"
        self.reads += 1
        if self.error is not None:
            raise self.error
        return Balance(self.free, in_flight=9 * SOL, reserved=9 * SOL)


async def refusal(purse: Purse, **changes: Any) -> InsufficientBalanceError | None:
    return await FundsCheck(cast("Wallet", purse)).examine(order(**changes))


@pytest.mark.parametrize(
    ("free", "changes", "refused"),
    [
        (2 * SOL, {}, False),
        (2 * SOL - 1, {}, True),
        (2 * SOL - 1, AT_ONCE, True),
        # What it will pay is not known: anything may do, nothing does not.
        (1, BUYING, False),
        (0, BUYING, True),
    ],
)
async def test_what_is_free_decides_of_an_order_that_is_executed_at_once(
    free: int, changes: dict[str, Any], refused: bool
) -> None:
    purse = Purse(free)
    assert (await refusal(purse, **changes) is not None) == refused
    assert purse.reads == 1


@pytest.mark.parametrize(
    "changes",
    [
        RESTS,
        {"order_type": OrderType.SNIPER, "terms": Terms(100, sniper_conditions={})},
        {"approve_within_s": 60},
        {**AT_ONCE, "approve_within_s": 60},
        {"token_in": "JUP"},
    ],
    ids=["limit", "sniper", "awaits approval", "IOC that awaits approval", "plenty"],
)
async def test_the_wallet_is_not_read_for_other_orders(changes: dict[str, Any]) -> None:
    purse = Purse(0)
    assert await refusal(purse, **changes) is None
    assert purse.reads == 0


@pytest.mark.parametrize(("changes", "pointer"), [({}, "#/amountIn"), (BUYING, "#/amountOut")])
async def test_the_problem_says_what_is_free(changes: dict[str, Any], pointer: str) -> None:
    problem = await refusal(Purse(0), **changes)
    assert problem is not None
    assert problem_json(problem) == {
        "type": "urn:problem-type:insufficient-balance",
        "title": "Insufficient balance",
        "status": 422,
        "detail": "The wallet cannot pay the order now.",
        "free": "0",
        "errors": [{"detail": "0 SOL is free in the wallet.", "pointer": pointer}],
    }


async def test_an_order_is_accepted_if_the_balance_is_not_known() -> None:
    assert await refusal(Purse(0, VenueUnavailableError("away"))) is None


async def test_an_order_does_not_wait_long_for_the_balance() -> None:
    class Silent(Purse):
        async def balance(self, token: str) -> Balance:
            await asyncio.Event().wait()
            return await super().balance(token)

    assert await asyncio.wait_for(refusal(Silent(0)), 10) is None
