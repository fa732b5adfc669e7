"""The router: every pool is asked at once, and the best net output is taken."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service.domain.failures import FailureCode
from service.domain.quote import Dex, NoQuote, Offer, Quote
from service.venues.router import NoRouteError, choose, collect_offers
from service.venues.venue import PoolRef, PoolState, QuoteRefusedError, Venue, VenueUnavailableError

MODEST = settings(max_examples=60, deadline=None)

RAYDIUM, METEORA, SECOND = (
    PoolRef("raydium:1", Dex.RAYDIUM),
    PoolRef("meteora:1", Dex.METEORA),
    PoolRef("meteora:2", Dex.METEORA),
)


def quote(pool: PoolRef, amount_out: int) -> Quote:
    return Quote(pool.dex, pool.id, amount_in=1_000, amount_out=amount_out, fee=2, price_impact_ppm=5)


@dataclass(frozen=True)
class Pool:
    """A pool that pays a fixed amount, or refuses to quote."""

    ref: PoolRef
    answer: int | FailureCode

    def quote(self, token_in: str, amount_in: int) -> Quote:
        assert (token_in, amount_in) == ("SOL", 1_000)
        if isinstance(self.answer, FailureCode):
            raise QuoteRefusedError(self.answer)
        return quote(self.ref, self.answer)


Answer = PoolState | Awaitable[PoolState] | Exception


class Pools:
    """A venue's side of quoting: what it answers about each pool."""

    def __init__(self, answers: dict[PoolRef, Answer]) -> None:
        self._answers = answers
        self.asked: list[PoolRef] = []

    def pools(self, _token_in: str, _token_out: str) -> Sequence[PoolRef]:
        return list(self._answers)

    def snapshot(self, pool: PoolRef) -> PoolState | Awaitable[PoolState]:
        self.asked.append(pool)
        answer = self._answers[pool]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def soon(pool: PoolState) -> PoolState:
    return pool


async def never(asked: Pools | None = None, at_least: int = 0) -> PoolState:
    if asked is not None:
        assert len(asked.asked) >= at_least
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def broken() -> PoolState:
    raise VenueUnavailableError


async def offers_of(venue: Pools) -> list[Offer]:
    # No time at all: whoever is not ready at once is too slow, and no test has to wait for it.
    return await collect_offers(cast("Venue", venue), "SOL", "USDC", 1_000, timeout_s=0)


def test_pools_at_hand_are_quoted_without_a_task_or_a_turn_of_the_loop() -> None:
    venue = Pools({RAYDIUM: Pool(RAYDIUM, 900), METEORA: Pool(METEORA, 910)})
    with pytest.raises(StopIteration) as done:  # no loop runs here: the first wait would fail
        offers_of(venue).send(None)
    assert done.value.value == [quote(RAYDIUM, 900), quote(METEORA, 910)]


async def test_offers_come_in_the_venues_order_of_pools() -> None:
    venue = Pools({METEORA: soon(Pool(METEORA, 1)), RAYDIUM: Pool(RAYDIUM, 2), SECOND: soon(Pool(SECOND, 3))})
    assert await offers_of(venue) == [quote(METEORA, 1), quote(RAYDIUM, 2), quote(SECOND, 3)]


async def test_a_slow_pool_neither_holds_nor_fails_the_others() -> None:
    venue = Pools({RAYDIUM: never(), METEORA: soon(Pool(METEORA, 910)), SECOND: Pool(SECOND, 900)})
    assert await offers_of(venue) == [
        NoQuote(Dex.RAYDIUM, FailureCode.QUOTES_UNAVAILABLE),
        quote(METEORA, 910),
        quote(SECOND, 900),
    ]


async def test_all_pools_are_asked_before_any_is_waited_for() -> None:
    venue = Pools({})
    venue._answers.update({RAYDIUM: never(venue, at_least=2), METEORA: never(venue, at_least=2)})
    assert [type(offer) for offer in await offers_of(venue)] == [NoQuote, NoQuote]


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_pool_that_does_not_answer_does_not_fail_the_others(at_once: bool) -> None:
    answer: Answer = VenueUnavailableError() if at_once else broken()
    venue = Pools({RAYDIUM: answer, METEORA: Pool(METEORA, 910)})
    assert await offers_of(venue) == [
        NoQuote(Dex.RAYDIUM, FailureCode.QUOTES_UNAVAILABLE),
        quote(METEORA, 910),
    ]


async def test_a_pool_that_refuses_says_why() -> None:
    venue = Pools(
        {
            RAYDIUM: Pool(RAYDIUM, FailureCode.INSUFFICIENT_LIQUIDITY),
            METEORA: soon(Pool(METEORA, FailureCode.AMOUNT_TOO_SMALL)),
        }
    )
    assert await offers_of(venue) == [
        NoQuote(Dex.RAYDIUM, FailureCode.INSUFFICIENT_LIQUIDITY),
        NoQuote(Dex.METEORA, FailureCode.AMOUNT_TOO_SMALL),
    ]


async def test_a_pair_that_no_pool_trades_has_no_offers() -> None:
    assert await offers_of(Pools({})) == []


@MODEST
@given(st.lists(st.one_of(st.integers(1, 4), st.sampled_from(list(FailureCode))), min_size=1))
def test_the_best_net_output_is_chosen_and_of_equals_the_first(answers: list[int | FailureCode]) -> None:
    offers: list[Offer] = [
        NoQuote(Dex.METEORA, answer)
        if isinstance(answer, FailureCode)
        else quote(PoolRef(str(place), Dex.RAYDIUM), answer)
        for place, answer in enumerate(answers)
    ]
    paid = [answer for answer in answers if isinstance(answer, int)]
    if paid:
        assert choose(offers) is offers[answers.index(max(paid))]
    else:
        with pytest.raises(NoRouteError):
            choose(offers)


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        ([], FailureCode.NO_ROUTE),
        ([FailureCode.AMOUNT_TOO_SMALL], FailureCode.AMOUNT_TOO_SMALL),
        ([FailureCode.AMOUNT_TOO_SMALL, FailureCode.QUOTES_UNAVAILABLE], FailureCode.QUOTES_UNAVAILABLE),
        ([FailureCode.QUOTES_UNAVAILABLE, FailureCode.AMOUNT_TOO_SMALL], FailureCode.QUOTES_UNAVAILABLE),
        (
            [FailureCode.INSUFFICIENT_LIQUIDITY, FailureCode.QUOTES_UNAVAILABLE],
            FailureCode.INSUFFICIENT_LIQUIDITY,
        ),
    ],
)
def test_without_a_quote_the_reason_is_one_that_may_pass_if_there_is_one(
    reasons: list[FailureCode], reason: FailureCode
) -> None:
    offers = [NoQuote(Dex.RAYDIUM, each) for each in reasons]
    with pytest.raises(NoRouteError) as error:
        choose(offers)
    assert error.value.failure.code is reason
    assert error.value.offers == offers
