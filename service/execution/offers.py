"""Offers as they are kept with an order, and as the log tells them."""

from collections.abc import Sequence
from typing import Any

from service.domain.amounts import format_amount
from service.domain.quote import NoQuote, Offer, Quote
from service.domain.tokens import TOKENS
from service.store.claims import Claimed


def in_json(offers: Sequence[Offer], order: Claimed, *, chosen: Quote | None) -> list[dict[str, Any]]:
    """Return offers in the form in which the order shows them: amounts in display units."""
    decimals_in, decimals_out = TOKENS[order.token_in].decimals, TOKENS[order.token_out].decimals
    return [
        {"venue": offer.dex, "reason": offer.reason}
        if isinstance(offer, NoQuote)
        else {
            "venue": offer.dex,
            "poolId": offer.pool_id,
            "amountOut": format_amount(offer.amount_out, decimals_out),
            "fee": format_amount(offer.fee, decimals_in),
            "priceImpact": format_amount(offer.price_impact_ppm, 6),
            "chosen": offer is chosen,
        }
        for offer in offers
    ]


def in_words(offers: Sequence[Offer], order: Claimed) -> str:
    """Return offers in one line."""
    decimals = TOKENS[order.token_out].decimals
    return ", ".join(
        f"{offer.dex} pays {format_amount(offer.amount_out, decimals)} {order.token_out}"
        if isinstance(offer, Quote)
        else f"{offer.dex} does not quote ({offer.reason})"
        for offer in offers
    )
