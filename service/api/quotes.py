"""A quote as JSON, and the problem of one that cannot be given."""

from service.api.problems import InvalidError, ServiceUnavailableError
from service.domain.amounts import format_amount, format_price
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Choice
from service.domain.routing_record import record_choice
from service.domain.timestamps import format_epoch
from service.domain.tokens import TOKENS

# How long a quote is shown as valid. Prices may move before: the paper market's every second, a chain's every
# slot.
_LIFETIME_S = 2


def quote_json(
    choice: Choice, now_s: float, slippage_bps: int, limit_out: int | None = None
) -> dict[str, object]:
    """Return a quote in the form that its schema dumps.

    Args:
        choice: The router's choice.
        now_s: PostgreSQL's time, in seconds since the Unix epoch.
        slippage_bps: The slippage allowed.
        limit_out: A limit order's minimum output, in base units.
    """
    route = choice.route
    decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
    maximum_in, minimum_out = route.limits(slippage_bps, limit_out)
    record = record_choice(choice)
    return {
        "token_in": route.token_in,
        "token_out": route.token_out,
        "swap_mode": route.mode,
        "slippage_bps": slippage_bps,
        "amount_in": format_amount(route.amount_in, decimals_in),
        "amount_out": format_amount(route.amount_out, decimals_out),
        "maximum_in": format_amount(maximum_in, decimals_in),
        "minimum_out": format_amount(minimum_out, decimals_out),
        "price": format_price(route.amount_out, decimals_out, route.amount_in, decimals_in),
        "price_impact": format_amount(route.price_impact_ppm, 6),
        "venue": route.dex,
        "route": record.route,
        "quotes": record.quotes,
        "quoted_at": format_epoch(now_s),
        "expires_at": format_epoch(now_s + _LIFETIME_S),
    }


def problem_of(failure: Failure) -> InvalidError | ServiceUnavailableError:
    """Return the problem of an amount that cannot be quoted, or of an order that would not be filled."""
    unavailable = failure.code is FailureCode.QUOTES_UNAVAILABLE
    kind = ServiceUnavailableError if unavailable else InvalidError
    return kind(failure.detail, reason=failure.code)
