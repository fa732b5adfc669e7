"""Routing: ask every pool of the pair at once, take the best net output."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Sequence

from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.quote import NoQuote, Offer, Quote
from service.venues.venue import PoolRef, PoolState, QuoteRefusedError, Venue, VenueUnavailableError

log = logging.getLogger(__name__)


class NoRouteError(Exception):
    """No offer can be taken."""

    def __init__(self, failure: Failure, offers: Sequence[Offer]) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.offers = offers


async def collect_offers(
    venue: Venue, token_in: str, token_out: str, amount_in: int, timeout_s: float
) -> list[Offer]:
    """Quote an amount on every pool of a pair at the same time, each within the time-out.

    Returns:
        One offer a pool, in the venue's order of pools: a quote, or why there is none.
    """
    pools = venue.pools(token_in, token_out)
    snapshots = [_snapshot(venue, pool) for pool in pools]
    waiting = [snapshot for snapshot in snapshots if inspect.isawaitable(snapshot)]
    if not waiting:
        # Every state is at hand: no task, no turn of the event loop.
        states = [snapshot for snapshot in snapshots if not inspect.isawaitable(snapshot)]
    else:
        states = await asyncio.gather(*(_in_time(snapshot, timeout_s) for snapshot in snapshots))
    return [_quote(pool, state, token_in, amount_in) for pool, state in zip(pools, states, strict=True)]


def choose(offers: Sequence[Offer]) -> Quote:
    """Return the quote with the best net output; of equals, the first.

    Raises:
        NoRouteError: there is no quote. Its failure is one that may pass, if any of the reasons is.
    """
    quotes = [offer for offer in offers if isinstance(offer, Quote)]
    if quotes:
        return max(quotes, key=lambda quote: quote.amount_out)
    failures = [Failure.of(offer.reason) for offer in offers if isinstance(offer, NoQuote)]
    passing = [failure for failure in failures if failure.remedy is not Remedy.NONE]
    raise NoRouteError((passing or failures or [Failure.of(FailureCode.NO_ROUTE)])[0], offers)


_NoState = FailureCode
"""Why a pool's state could not be had."""


def _snapshot(venue: Venue, pool: PoolRef) -> PoolState | _NoState | Awaitable[PoolState]:
    try:
        return venue.snapshot(pool)
    except VenueUnavailableError:
        return FailureCode.QUOTES_UNAVAILABLE


async def _in_time(
    snapshot: PoolState | _NoState | Awaitable[PoolState], timeout_s: float
) -> PoolState | _NoState:
    if not inspect.isawaitable(snapshot):
        return snapshot
    try:
        async with asyncio.timeout(timeout_s):
            return await snapshot
    except (VenueUnavailableError, TimeoutError):
        return FailureCode.QUOTES_UNAVAILABLE
    except Exception:
        # A pool that cannot be read must not fail the order while another pool can.
        log.exception("a pool's state could not be had")
        return FailureCode.QUOTES_UNAVAILABLE


def _quote(pool: PoolRef, state: PoolState | _NoState, token_in: str, amount_in: int) -> Offer:
    if isinstance(state, FailureCode):
        return NoQuote(pool.dex, state)
    try:
        return state.quote(token_in, amount_in)
    except QuoteRefusedError as refusal:
        return NoQuote(pool.dex, refusal.code)
