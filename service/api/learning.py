"""Tokens that another instance has listed a moment ago: read before a request that names one is judged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.api.problems import ServiceUnavailableError
from service.chains.venue import MarketData, VenueUnavailableError
from service.domain.tokens import find_token

_MEMBERS = ("tokenIn", "tokenOut", "tokenA", "tokenB", "token")
_NAME = re.compile(r"[0-9A-Za-z]{1,44}")


@dataclass(frozen=True, slots=True)
class TokenLearner:
    """Has the venue learn the tokens that a request names and that are not known here.

    Args:
        venue: Whose tokens.
    """

    venue: MarketData

    async def __call__(self, sent: object) -> None:
        """Learn what a body or a query names, whatever else is in it.

        Raises:
            ServiceUnavailableError: A token is not known here, and whether there is one cannot be learned.
        """
        if not isinstance(sent, Mapping):
            return
        named = [sent.get(member) for member in _MEMBERS]
        unknown = {
            name
            for name in named
            if isinstance(name, str) and _NAME.fullmatch(name) and find_token(name) is None
        }
        if not unknown:
            return
        try:
            await self.venue.learn(unknown)
        except VenueUnavailableError as error:
            raise ServiceUnavailableError("The market cannot be reached; try again.") from error
