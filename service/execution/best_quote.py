"""The best route for an order, if it meets the order's limits, or why the attempt ends without one."""

from dataclasses import dataclass
from functools import partial

from service.clock import Clock
from service.domain.amounts import format_amount
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Choice, SwapMode
from service.domain.routing_record import RoutingRecord, record_refusal
from service.domain.service_limits import ServiceLimits
from service.domain.tokens import TOKENS
from service.domain.transaction import SimulatedSwap
from service.routing import NoRouteError
from service.routing.quoting import Quoter
from service.store.claims import Claimed

# The time before an order's submission deadline that quoting leaves for signing and storing.
_TO_SUBMIT_S = 0.25

_PPM_PER_BPS = 100


@dataclass(frozen=True, slots=True)
class Demand:
    """What a route has to do for an order.

    ``amount`` is in base units of the token whose side ``swap_mode`` fixes; ``limit_out`` is the minimum
    output of a limit order, in base units; None: no limit, as for ``max_price_impact_bps``.
    """

    swap_mode: SwapMode
    token_in: str
    token_out: str
    amount: int
    limit_out: int | None
    max_price_impact_bps: int | None


class AttemptFailedError(Exception):
    """This attempt has failed; the retry policy decides whether another follows."""

    def __init__(
        self,
        failure: Failure,
        routing: RoutingRecord | None = None,
        *,
        simulated: SimulatedSwap | None = None,
    ) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.routing = routing
        self.simulated = simulated


class TooLateError(Exception):
    """It is too late for the order to land before it expires."""


async def best_quote(
    order: Claimed, quoter: Quoter, clock: Clock, max_price_impact_bps: int | None
) -> Choice:
    """Return the best route, if it meets the order's limits.

    Args:
        order: The order.
        quoter: Finds the route.
        clock: PostgreSQL's time.
        max_price_impact_bps: The highest price impact for all orders; None: no limit.

    Raises:
        AttemptFailedError: There is no such route.
        TooLateError: The order's submission deadline has passed.
    """
    left_s = None
    if order.submit_by is not None:
        left_s = order.submit_by - clock.database_time() - _TO_SUBMIT_S
    demand = Demand(
        order.swap_mode,
        order.token_in,
        order.token_out,
        order.amount,
        order.limit_out,
        lower_limit(order.max_price_impact_bps, max_price_impact_bps),
    )
    choice = await find_choice(demand, quoter, within_s=left_s)
    if order.submit_by is not None and order.submit_by <= clock.database_time():
        raise TooLateError
    if (failure := failure_of(demand, choice)) is not None:
        record = record_refusal(choice.quotes, order.token_in, order.token_out)
        raise AttemptFailedError(failure, record)
    return choice


async def find_choice(demand: Demand, quoter: Quoter, *, within_s: float | None = None) -> Choice:
    """Return the best route, whether or not it meets the limits.

    Args:
        demand: What it has to do.
        quoter: Finds it.
        within_s: The time for each DEX to answer, if it is shorter than usual.

    Raises:
        AttemptFailedError: There is none.
    """
    try:
        return await quoter.best_of_latest(
            demand.swap_mode,
            demand.token_in,
            demand.token_out,
            demand.amount,
            accept=partial(_meets_limits, demand),
            within_s=within_s,
        )
    except NoRouteError as end:
        record = record_refusal(end.quotes, demand.token_in, demand.token_out)
        raise AttemptFailedError(end.failure, record) from end


def failure_of(demand: Demand, choice: Choice) -> Failure | None:
    """Return why nothing may be submitted on a route; None if it meets the limits."""
    route, max_bps = choice.route, demand.max_price_impact_bps
    if demand.limit_out is not None and route.amount_out < demand.limit_out:
        return Failure.of(FailureCode.LIMIT_NOT_REACHED)
    if max_bps is not None and route.price_impact_ppm > max_bps * _PPM_PER_BPS:
        # In per cent.
        impact, limit = format_amount(route.price_impact_ppm, 4), format_amount(max_bps, 2)
        return Failure(
            FailureCode.PRICE_IMPACT_TOO_HIGH,
            f"The best route's price impact, {impact} %, is above the limit, {limit} %.",
        )
    return None


def check_payment(limits: ServiceLimits, token: str, maximum_in: int) -> None:
    """Refuse a transaction that may sell more than one order may.

    The limits may be lower now than when the order was placed.

    Raises:
        AttemptFailedError: It may.
    """
    breach = limits.breach_of_payment(token, maximum_in, TOKENS[token].decimals)
    if breach is not None:
        raise AttemptFailedError(Failure(FailureCode.OVER_LIMIT, breach.detail))


def lower_limit(*limits: int | None) -> int | None:
    """Return the lowest of some limits; None is no limit."""
    return min((limit for limit in limits if limit is not None), default=None)


def _meets_limits(demand: Demand, choice: Choice) -> bool:
    return failure_of(demand, choice) is None
