"""What follows a failed attempt, for every kind of order and every failure."""

import pytest

from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.lifecycle import Event, Status
from service.domain.order import OrderType, TimeInForce
from service.domain.quote import SwapMode
from service.execution.retry import RESERVED_ENTRIES, NextStep, RetryPolicy
from service.store.claims import Claimed

POLICY = RetryPolicy(max_retries=3, base_delay_ms=2_000, max_history_entries=200)
FEW = 3
"""Entries of a history that has room."""

PRICE_IS_GONE = {
    FailureCode.LIMIT_NOT_REACHED,
    FailureCode.PRICE_IMPACT_TOO_HIGH,
    FailureCode.NETWORK_FEE_TOO_HIGH,
    FailureCode.ROUTE_TOO_LARGE,
    FailureCode.SLIPPAGE_EXCEEDED,
    FailureCode.INSUFFICIENT_LIQUIDITY,
    FailureCode.NO_ROUTE,
    FailureCode.AMOUNT_TOO_SMALL,
    FailureCode.POOL_DISABLED,
    FailureCode.POOL_NOT_OPEN,
    FailureCode.UNSUPPORTED_POOL,
}
"""Failures that a better market resolves; a limit order waits for it."""

FOR_GOOD = {code for code in FailureCode if Failure.of(code).remedy is Remedy.NONE}


def an_order(
    kind: OrderType = OrderType.MARKET,
    time_in_force: TimeInForce | None = None,
    *,
    attempts: int = 1,
    before: int = 0,
) -> Claimed:
    """Return an order that has failed so many times since it last rested."""
    return Claimed(
        order_id="order",
        owner="worker",
        order_type=kind,
        token_in="SOL",
        token_out="USDC",
        swap_mode=SwapMode.EXACT_IN,
        amount=10**9,
        slippage_bps=100,
        time_in_force=time_in_force,
        limit_out=None if time_in_force is None else 1,
        max_price_impact_bps=None,
        expires_at=None,
        submit_by=None,
        status=Status.ROUTING,
        version=3,
        attempts=before + attempts,
        attempts_since_rest=attempts,
        expired_attempts=0,
    )


@pytest.mark.parametrize("kind", [OrderType.MARKET, OrderType.SNIPER])
@pytest.mark.parametrize("code", FailureCode)
def test_market_and_sniper_orders_are_retried_unless_the_failure_is_permanent(
    kind: OrderType, code: FailureCode
) -> None:
    failure = Failure.of(code)
    delays = [POLICY.after(an_order(kind, attempts=attempts), failure, FEW) for attempts in (1, 2, 3, 4)]
    if code in FOR_GOOD:
        assert delays == [NextStep(Event.FAIL, failure)] * 4
    else:
        retries = [NextStep(Event.RETRY, failure, delay_ms) for delay_ms in (2_000, 4_000, 8_000)]
        assert delays == [*retries, NextStep(Event.FAIL, failure)]


@pytest.mark.parametrize("time_in_force", [TimeInForce.GTC, TimeInForce.GTD])
@pytest.mark.parametrize("code", FailureCode)
def test_a_limit_order_whose_price_is_gone_always_rests_again(
    time_in_force: TimeInForce, code: FailureCode
) -> None:
    failure = Failure.of(code)
    for attempts in (1, 4, 100):
        following = POLICY.after(an_order(OrderType.LIMIT, time_in_force, attempts=attempts), failure, FEW)
        if code in PRICE_IS_GONE:
            assert following == NextStep(Event.REST, failure)
        elif code in FOR_GOOD or attempts > 3:
            assert following == NextStep(Event.FAIL, failure)
        else:
            assert following == NextStep(Event.RETRY, failure, 2_000 << attempts - 1)


def test_attempts_before_the_last_rest_do_not_count() -> None:
    order = an_order(OrderType.LIMIT, TimeInForce.GTC, attempts=1, before=50)
    failure = Failure.of(FailureCode.TRANSACTION_FAILED)
    assert POLICY.after(order, failure, FEW) == NextStep(Event.RETRY, failure, 2_000)


@pytest.mark.parametrize("time_in_force", [TimeInForce.IOC, TimeInForce.FOK])
@pytest.mark.parametrize("code", FailureCode)
def test_an_ioc_or_fok_order_ends_with_its_first_failure(
    time_in_force: TimeInForce, code: FailureCode
) -> None:
    failure = Failure.of(code)
    following = POLICY.after(an_order(OrderType.LIMIT, time_in_force), failure, FEW)
    if code in {FailureCode.OVER_LIMIT, FailureCode.SIMULATED}:
        # It says nothing about the price.
        assert following == NextStep(Event.FAIL, failure)
        return
    assert (following.event, following.delay_ms) == (Event.EXPIRE, None)
    assert following.failure.code is FailureCode.NOT_FILLED_IMMEDIATELY
    # The reason for it is stored as well.
    assert failure.detail in following.failure.detail


def test_without_retries_the_first_failure_is_final() -> None:
    policy = RetryPolicy(max_retries=0, base_delay_ms=2_000, max_history_entries=200)
    failure = Failure.of(FailureCode.TRANSACTION_FAILED)
    assert policy.after(an_order(), failure, FEW) == NextStep(Event.FAIL, failure)
    gone = Failure.of(FailureCode.LIMIT_NOT_REACHED)
    assert policy.after(an_order(OrderType.LIMIT, TimeInForce.GTC), gone, FEW) == NextStep(Event.REST, gone)


def test_an_order_with_a_full_history_fails_instead_of_resting_again() -> None:
    order, gone = an_order(OrderType.LIMIT, TimeInForce.GTC), Failure.of(FailureCode.LIMIT_NOT_REACHED)
    full = POLICY.max_history_entries + RESERVED_ENTRIES
    assert POLICY.after(order, gone, full - 1) == NextStep(Event.REST, gone)
    following = POLICY.after(order, gone, full)
    assert (following.event, following.delay_ms) == (Event.FAIL, None)
    assert following.failure.code is FailureCode.HISTORY_FULL
    # The reason why it would rest is stored as well.
    assert gone.detail in following.failure.detail


def test_a_full_history_costs_an_order_no_attempt() -> None:
    failure = Failure.of(FailureCode.TRANSACTION_FAILED)
    for order in (an_order(), an_order(OrderType.LIMIT, TimeInForce.GTC)):
        assert POLICY.after(order, failure, 10_000) == NextStep(Event.RETRY, failure, 2_000)
