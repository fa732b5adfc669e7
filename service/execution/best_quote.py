"""The best route for an order, if it meets the order's limit, or why the attempt ends without one."""

from functools import partial

from service.clock import Clock
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Choice
from service.domain.routing_record import RoutingRecord, record_refusal
from service.routing import NoRouteError
from service.routing.quoting import Quoter
from service.store.claims import Claimed

# The time before an order's submission deadline that quoting leaves for signing and storing.
_TO_SUBMIT_S = 0.25


class AttemptFailedError(Exception):
    """This attempt has failed; the retry policy decides whether another follows."""

    def __init__(self, failure: Failure, routing: RoutingRecord | None = None) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.routing = routing


class TooLateError(Exception):
    """It is too late for the order to land before it expires."""


async def best_quote(order: Claimed, quoter: Quoter, clock: Clock) -> Choice:
    """Return the best route, if it meets the order's limit.

    Raises:
        AttemptFailedError: There is no such route.
        TooLateError: The order's submission deadline has passed.
    """
    left_s = None
    if order.submit_by is not None:
        left_s = order.submit_by - clock.database_time() - _TO_SUBMIT_S
    try:
        choice = await quoter.best_of_latest(
            order.swap_mode,
            order.token_in,
            order.token_out,
            order.amount,
            accept=partial(_meets_limit, order),
            within_s=left_s,
        )
    except NoRouteError as end:
        record = record_refusal(end.quotes, order.token_in, order.token_out)
        raise AttemptFailedError(end.failure, record) from end
    if order.submit_by is not None and order.submit_by <= clock.database_time():
        raise TooLateError
    if not _meets_limit(order, choice):
        record = record_refusal(choice.quotes, order.token_in, order.token_out)
        raise AttemptFailedError(Failure.of(FailureCode.LIMIT_NOT_REACHED), record)
    return choice


def _meets_limit(order: Claimed, choice: Choice) -> bool:
    """Return whether a route pays at least the order's limit, if it has one."""
    return order.limit_out is None or choice.route.amount_out >= order.limit_out
