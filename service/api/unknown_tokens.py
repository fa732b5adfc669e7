"""Fetches tokens that another instance has just listed, before a request that names one is validated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.api.market_requests import MOST_PAIRS
from service.api.problems import ServiceUnavailableError
from service.chains.venue import MarketData, VenueUnavailableError
from service.domain.tokens import find_token

_MEMBERS = ("tokenIn", "tokenOut", "tokenA", "tokenB", "token")
_NAME = re.compile(r"[0-9A-Za-z]{1,44}")


@dataclass(frozen=True, slots=True)
class TokenFetcher:
    """Has the venue fetch the tokens that a request names and that are unknown here.

    Args:
        venue: The tokens' venue.
    """

    venue: MarketData

    async def __call__(self, sent: object) -> None:
        """Fetch the unknown tokens that a body or a query names; the rest of it is ignored.

        Raises:
            ServiceUnavailableError: A token is unknown here, and the venue did not answer.
        """
        if not isinstance(sent, Mapping):
            return
        named = [*(sent.get(member) for member in _MEMBERS), *_in_pairs(sent.get("pairs"))]
        unknown = {
            name
            for name in named
            if isinstance(name, str) and _NAME.fullmatch(name) and find_token(name) is None
        }
        if not unknown:
            return
        try:
            await self.venue.fetch_tokens(unknown)
        except VenueUnavailableError as error:
            raise ServiceUnavailableError("The market cannot be reached; try again.") from error


def _in_pairs(pairs: object) -> list[str]:
    """Return the tokens of a query's pairs, as many as it may have."""
    if not isinstance(pairs, str):
        return []
    return [name for pair in pairs.split(",")[:MOST_PAIRS] for name in pair.partition(":")[0].split("-")[:2]]
