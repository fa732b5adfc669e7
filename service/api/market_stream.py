"""The WebSocket of the market: prices and best quotes of pairs as the market moves.

It is conflated: a message is sent only when the client has read the one before it. Meanwhile newer states
replace older ones, so that a slow client gets the newest, and never what has become outdated.
"""

import logging
from collections.abc import Sequence
from functools import partial

from aiohttp import web

from service.api.client_socket import ClientSocket
from service.api.market_messages import MarketMessages, MessageType
from service.api.market_requests import MARKET_STREAM_QUERY
from service.api.messages import FetchTokens, load_query
from service.api.problems import FieldError, InvalidError, ServiceUnavailableError
from service.api.sockets import Sockets
from service.chains.venue import MarketData, VenueUnavailableError
from service.events.market_feed import MarketFeed, MarketWatch, QuotedPair, TooManyQuotesError

log = logging.getLogger(__name__)


class MarketStreamRoutes:
    """The WebSocket route of the market.

    Args:
        feed: The watched pairs.
        venue: Fetches pools that another instance has just listed.
        sockets: Opens and closes the sockets.
        fetch_tokens: Fetches such tokens.
    """

    def __init__(
        self, feed: MarketFeed, venue: MarketData, sockets: Sockets, fetch_tokens: FetchTokens
    ) -> None:
        self._feed = feed
        self._venue = venue
        self._sockets = sockets
        self._fetch_tokens = fetch_tokens
        self._messages = MarketMessages()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/market/ws?pairs=: the state of all pairs, then the newest of those that change."""
        await self._fetch_tokens(request.query)
        pairs = load_query(request, MARKET_STREAM_QUERY)["pairs"]
        with self._sockets.upgrade(request) as socket:
            await self._check_pools(pairs)
            try:
                watch = await self._feed.watch(pairs)
            except TooManyQuotesError:
                raise ServiceUnavailableError(
                    "Too many different pairs and amounts are watched here."
                ) from None
            with watch:
                return await self._sockets.serve(request, socket, partial(self._send_all, watch))

    async def _send_all(self, watch: MarketWatch, client: ClientSocket) -> None:
        kind: MessageType = "market_state"
        while True:
            await client.send(self._messages.message(kind, await watch.next()))
            await client.catch_up()
            kind = "market_update"

    async def _check_pools(self, pairs: Sequence[QuotedPair]) -> None:
        """Reject pairs that no pool trades."""
        if self._without_pools(pairs):
            try:
                await self._venue.refresh()
            except VenueUnavailableError as error:
                log.debug("watching the market from local state (%s)", error)
        if missing := self._without_pools(pairs):
            raise InvalidError.at_each(missing)

    def _without_pools(self, pairs: Sequence[QuotedPair]) -> list[FieldError]:
        return [
            FieldError(("pairs", number), "No pool trades this pair, nor two pools through SOL or USDC.")
            for number, pair in enumerate(pairs)
            if not self._feed.has_pools(pair)
        ]
