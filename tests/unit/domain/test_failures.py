"""What a failure means, and whether it is retried."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.amm import errors
from service.chains.paper.market import _code_of as code_of
from service.domain.failures import Failure, FailureCode, Remedy, describe
from service.execution.retry import RetryPolicy
from service.routing.exact import reason_of

MODEST = settings(max_examples=50, deadline=None)

PERMANENT = {
    FailureCode.NO_ROUTE,
    FailureCode.AMOUNT_TOO_SMALL,
    FailureCode.INSUFFICIENT_BALANCE,
    FailureCode.INSUFFICIENT_SOL,
    FailureCode.UNSUPPORTED_POOL,
    FailureCode.TRANSACTION_REJECTED,
    FailureCode.NOT_FILLED_IMMEDIATELY,
    FailureCode.NOT_SUBMITTED_IN_TIME,
    FailureCode.HISTORY_FULL,
    FailureCode.APPROVAL_REFUSED,
    FailureCode.NOT_APPROVED_IN_TIME,
    FailureCode.OVER_LIMIT,
    FailureCode.SIMULATED,
}
TRANSIENT = set(FailureCode) - PERMANENT

POLICY = RetryPolicy(max_retries=3, base_delay_ms=2_000, max_history_entries=200)

codes = st.sampled_from(list(FailureCode))


@pytest.mark.parametrize("code", FailureCode)
def test_every_code_has_a_remedy_and_a_text(code: FailureCode) -> None:
    remedy, text = describe(code)
    assert text.endswith(".")
    assert Failure.of(code) == Failure(code, text)
    assert Failure.of(code).remedy is remedy
    assert (remedy is Remedy.NONE) == (code in PERMANENT)


def test_every_code_has_a_unique_text() -> None:
    assert len({describe(code)[1] for code in FailureCode}) == len(FailureCode)


def test_a_failure_with_its_own_text_keeps_its_remedy() -> None:
    failure = Failure(FailureCode.NO_ROUTE, "Not today.")
    assert (failure.detail, failure.remedy) == ("Not today.", Remedy.NONE)


def test_the_three_retries_wait_2_4_and_8_seconds() -> None:
    failure = Failure.of(FailureCode.SLIPPAGE_EXCEEDED)
    assert [POLICY.delay_ms(failure, attempts) for attempts in (1, 2, 3, 4)] == [2_000, 4_000, 8_000, None]


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_a_transient_failure_is_retried(code: FailureCode) -> None:
    assert POLICY.delay_ms(Failure.of(code), attempts=1) == 2_000


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_a_permanent_failure_is_never_retried(code: FailureCode) -> None:
    assert POLICY.delay_ms(Failure.of(code), attempts=1) is None


@MODEST
@given(code=codes, max_retries=st.integers(0, 10), base_delay_ms=st.integers(0, 600_000))
def test_there_are_never_more_retries_than_allowed(
    code: FailureCode, max_retries: int, base_delay_ms: int
) -> None:
    policy = RetryPolicy(max_retries, base_delay_ms, 200)
    delays = [policy.delay_ms(Failure.of(code), attempts) for attempts in range(1, 14)]
    retries = 0 if code in PERMANENT else max_retries
    assert delays[:retries] == [base_delay_ms * 2**n for n in range(retries)]
    assert delays[retries:] == [None] * (13 - retries)


@MODEST
@given(base_delay_ms=st.integers(0, 600_000))
def test_jitter_is_small_compared_to_the_first_delay(base_delay_ms: int) -> None:
    jitter_ms = RetryPolicy(3, base_delay_ms, 200).jitter_ms()
    assert 0 <= jitter_ms <= base_delay_ms / 10


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_a_transient_error_of_a_pool_is_retried_with_a_new_quote(kind: type[errors.AmmError]) -> None:
    if kind.transient:
        refusal = kind(0) if kind is errors.BinArrayMissingError else kind("refused")
        for code in (reason_of(refusal), code_of(refusal)):
            assert Failure.of(code).remedy is Remedy.REQUOTE
