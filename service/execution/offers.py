"""Offers and routes as they are kept with an order and shown to clients, and as the log tells them."""

from collections.abc import Iterable, Sequence
from typing import Any

from service.domain.amounts import format_amount
from service.domain.history import Quoted
from service.domain.quote import Choice, Leg, NoQuote, Offer, Path, PoolQuote, Route
from service.domain.tokens import TOKENS
from service.domain.transaction import SignedTransaction


def quoted(choice: Choice) -> Quoted:
    """Return what the router saw and chose in the form in which the order shows it."""
    route = choice.route
    used = {leg.pool_id for leg in route.legs}
    return Quoted(
        [offer_in_json(offer, route.token_in, route.token_out, used) for offer in choice.offers],
        {
            **route_in_json(route),
            "beat": choice.runner_up and _in_short(choice.runner_up),
        },
    )


def refused(offers: Sequence[Offer], token_in: str, token_out: str) -> Quoted:
    """Return offers of which none could be taken."""
    return Quoted([offer_in_json(offer, token_in, token_out, set()) for offer in offers], None)


def offer_in_json(offer: Offer, token_in: str, token_out: str, used: set[str]) -> dict[str, Any]:
    """Return one pool's answer; ``used`` are the pools of the route that was chosen."""
    named = {"venue": offer.dex, "poolId": offer.pool_id}
    if isinstance(offer, NoQuote):
        return {**named, "reason": offer.reason}
    return {**named, **_swap(offer, token_in, token_out), "chosen": offer.pool_id in used}


def route_in_json(route: Route) -> dict[str, Any]:
    """Return a route with all its legs."""
    return {
        "venue": route.venue,
        **_amounts(route, route.token_in, route.token_out),
        "priceImpact": format_amount(route.price_impact_ppm, 6),
        "paths": [
            {
                **_amounts(path, route.token_in, route.token_out),
                "legs": [
                    {
                        "venue": leg.dex,
                        "poolId": leg.pool_id,
                        "tokenIn": leg.token_in,
                        "tokenOut": leg.token_out,
                        **_swap(leg, leg.token_in, leg.token_out),
                    }
                    for leg in path.legs
                ],
            }
            for path in route.paths
        ],
    }


def promise(transaction: SignedTransaction, route: Route) -> dict[str, Any]:
    """Return what a transaction was quoted and what it must keep to, for the history."""
    decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
    return {
        "txHash": transaction.id,
        "quotedIn": format_amount(route.amount_in, decimals_in),
        "quotedOut": format_amount(route.amount_out, decimals_out),
        "maximumIn": format_amount(transaction.maximum_in, decimals_in),
        "minimumOut": format_amount(transaction.minimum_out, decimals_out),
    }


def in_words(choice: Choice) -> str:
    """Return offers and choice in one line."""
    route = choice.route
    decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
    offers = ", ".join(
        f"{offer.pool_id} {format_amount(offer.amount_in, decimals_in)} {route.token_in}"
        f" for {format_amount(offer.amount_out, decimals_out)} {route.token_out}"
        if isinstance(offer, PoolQuote)
        else f"{offer.pool_id} does not quote ({offer.reason})"
        for offer in choice.offers
    )
    return f"{offers or 'no direct pool'}; chosen: {_pools(route.paths)}"


def _in_short(route: Route) -> dict[str, Any]:
    return {
        "venue": route.venue,
        "poolIds": [leg.pool_id for leg in route.legs],
        **_amounts(route, route.token_in, route.token_out),
    }


def _amounts(swap: Route | Path | PoolQuote | Leg, token_in: str, token_out: str) -> dict[str, str]:
    return {
        "amountIn": format_amount(swap.amount_in, TOKENS[token_in].decimals),
        "amountOut": format_amount(swap.amount_out, TOKENS[token_out].decimals),
    }


def _swap(swap: PoolQuote | Leg, token_in: str, token_out: str) -> dict[str, Any]:
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
