"""The venue and its wallet over REST.

There is one wallet for all accounts, and any key may see what it holds: on a chain a balance is public, and
the ``txHash`` of any order leads to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web

from service.api.messages import json_list_response, json_response, load_query
from service.api.problems import ServiceUnavailableError
from service.api.venue_schemas import BALANCE, BALANCE_QUERY, VENUE
from service.chains.venue import Balance, Venue, VenueUnavailableError
from service.domain.amounts import format_amount
from service.domain.key_limits import LargestAmount, format_usd
from service.domain.service_limits import ServiceLimits
from service.domain.tokens import Token
from service.routing.dollars import ReferencePrices
from service.store.halt import TradingHalt
from service.turns import Steps, Turns


@dataclass(frozen=True, slots=True)
class VenueRoutes:
    """The handlers of the routes about the venue.

    ``prices`` tells what a balance is worth. ``limits`` are those of all orders; ``max_price_impact_bps`` is
    the highest price impact, and ``max_market_order_age_s`` the age at which a market order expires; None: no
    limit.
    """

    venue: Venue
    prices: ReferencePrices
    halt: TradingHalt
    limits: ServiceLimits
    max_price_impact_bps: int | None
    max_market_order_age_s: int | None
    turns: Turns

    async def describe(self, _request: web.Request) -> web.Response:
        """GET /api/venue: where orders are executed, and whether and within which limits."""
        halt = await self.halt.read()
        body = {
            "venue": self.venue.kind,
            "mode": self.venue.mode,
            "wallet": self.venue.address,
            "halted": halt and {"reason": halt.reason, "haltedAt": halt.halted_at},
            "limits": {
                "max_order_amounts": _shown(self.limits.max_amount),
                "max_day_amounts": _shown(self.limits.max_day),
                "max_price_impact_bps": self.max_price_impact_bps,
                "max_market_order_age_s": self.max_market_order_age_s,
            },
        }
        return json_response(VENUE.dump(body))

    async def balances(self, request: web.Request) -> web.Response:
        """GET /api/balances?limit=&cursor=: what the wallet holds, by token."""
        query = load_query(request, BALANCE_QUERY)
        limit = query["limit"]
        try:
            held = await self.venue.balances(limit + 1, query["cursor"])
        except VenueUnavailableError as error:
            raise ServiceUnavailableError("The wallet cannot be read; try again.") from error
        page = held[:limit]
        texts = await self.turns.run(self._written(page))
        next_cursor = page[-1][0].symbol if len(held) > limit else None
        return json_list_response("balances", texts, nextCursor=next_cursor)

    def _written(self, page: Sequence[tuple[Token, Balance]]) -> Steps[list[bytes]]:
        """Encode balances, one per step: a price that is not known yet takes a while."""
        written = []
        for token, balance in page:
            usd = self.prices.value(token.symbol, balance.total)
            shown = {
                "token": token.symbol,
                "free": format_amount(balance.free, token.decimals),
                "in_flight": format_amount(balance.in_flight, token.decimals),
                "reserved": format_amount(balance.reserved, token.decimals),
                "usd": None if usd is None else format_usd(usd),
            }
            written.append(orjson.dumps(BALANCE.dump(shown)))
            yield
        return written


def _shown(amounts: Mapping[str, LargestAmount]) -> dict[str, str] | None:
    return {token: str(largest) for token, largest in sorted(amounts.items())} or None
