"""The stored record of an attempt's routing: every pool's quote and the route, in the form of the API.

Like history entries, records have the same form everywhere, so they need no conversion. Amounts are decimal
strings in display units.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from service.domain.amounts import format_amount
from service.domain.quote import Choice, Leg, NoQuote, Path, PoolQuote, Route
from service.domain.tokens import TOKENS


class FeeJson(TypedDict):
    """A fee in one token."""

    token: str
    amount: str


class AmountsJson(TypedDict):
    """Input and output."""

    amountIn: str
    amountOut: str


class SwapJson(AmountsJson):
    """A swap in one pool as quoted."""

    fees: list[FeeJson]
    priceImpact: str


class PoolQuoteJson(SwapJson):
    """One pool's quote for the whole amount, and whether the route goes through the pool."""

    venue: str
    poolId: str
    chosen: bool


class NoQuoteJson(TypedDict):
    """A pool that did not quote, and why."""

    venue: str
    poolId: str
    reason: str


class LegJson(SwapJson):
    """One swap of a route."""

    venue: str
    poolId: str
    tokenIn: str
    tokenOut: str


class PathJson(AmountsJson):
    """Legs in sequence."""

    legs: list[LegJson]


class BeatenJson(AmountsJson):
    """The best simpler route."""

    venue: str
    poolIds: list[str]


class RouteJson(AmountsJson):
    """Parallel paths, and the route that they beat."""

    venue: str
    priceImpact: str
    paths: list[PathJson]
    beat: BeatenJson | None


@dataclass(frozen=True, slots=True)
class RoutingRecord:
    """The pools' quotes for an attempt, and the chosen route; None: no route was found."""

    quotes: list[PoolQuoteJson | NoQuoteJson]
    route: RouteJson | None


def record_choice(choice: Choice) -> RoutingRecord:
    """Return the record of the router's quotes and choice."""
    route = choice.route
    used = {leg.pool_id for leg in route.legs}
    return RoutingRecord(
        [_quote(quote, route.token_in, route.token_out, used) for quote in choice.quotes],
        _route(route, choice.runner_up),
    )


def record_refusal(quotes: Sequence[PoolQuote | NoQuote], token_in: str, token_out: str) -> RoutingRecord:
    """Return the record of quotes without a usable route."""
    return RoutingRecord([_quote(quote, token_in, token_out, set()) for quote in quotes], None)


def in_words(choice: Choice) -> str:
    """Return the quotes and the choice in one line, for the log."""
    route = choice.route
    decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
    quotes = ", ".join(
        f"{quote.pool_id} {format_amount(quote.amount_in, decimals_in)} {route.token_in}"
        f" for {format_amount(quote.amount_out, decimals_out)} {route.token_out}"
        if isinstance(quote, PoolQuote)
        else f"{quote.pool_id} does not quote ({quote.reason})"
        for quote in choice.quotes
    )
    return f"{quotes or 'no direct pool'}; chosen: {_pools(route.paths)}"


def _quote(
    quote: PoolQuote | NoQuote, token_in: str, token_out: str, used: set[str]
) -> PoolQuoteJson | NoQuoteJson:
    if isinstance(quote, NoQuote):
        return {"venue": quote.dex, "poolId": quote.pool_id, "reason": quote.reason}
    return {
        "venue": quote.dex,
        "poolId": quote.pool_id,
        **_swap(quote, token_in, token_out),
        "chosen": quote.pool_id in used,
    }


def _route(route: Route, runner_up: Route | None) -> RouteJson:
    return {
        "venue": route.dex,
        **_amounts(route, route.token_in, route.token_out),
        "priceImpact": format_amount(route.price_impact_ppm, 6),
        "paths": [
            {**_amounts(path, route.token_in, route.token_out), "legs": [_leg(leg) for leg in path.legs]}
            for path in route.paths
        ],
        "beat": None if runner_up is None else _beaten(runner_up),
    }


def _leg(leg: Leg) -> LegJson:
    return {
        "venue": leg.dex,
        "poolId": leg.pool_id,
        "tokenIn": leg.token_in,
        "tokenOut": leg.token_out,
        **_swap(leg, leg.token_in, leg.token_out),
    }


def _beaten(route: Route) -> BeatenJson:
    return {
        "venue": route.dex,
        "poolIds": [leg.pool_id for leg in route.legs],
        **_amounts(route, route.token_in, route.token_out),
    }


def _amounts(swap: Route | Path | PoolQuote | Leg, token_in: str, token_out: str) -> AmountsJson:
    return {
        "amountIn": format_amount(swap.amount_in, TOKENS[token_in].decimals),
        "amountOut": format_amount(swap.amount_out, TOKENS[token_out].decimals),
    }


def _swap(swap: PoolQuote | Leg, token_in: str, token_out: str) -> SwapJson:
    fees = ((token_in, swap.fee_in), (token_out, swap.fee_out))
    return {
        **_amounts(swap, token_in, token_out),
        "fees": [
            {"token": token, "amount": format_amount(fee, TOKENS[token].decimals)}
            for token, fee in fees
            if fee
        ],
        "priceImpact": format_amount(swap.price_impact_ppm, 6),
    }


def _pools(paths: Iterable[Path]) -> str:
    return " + ".join(" -> ".join(leg.pool_id for leg in path.legs) for path in paths)
