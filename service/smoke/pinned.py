"""Routes through chosen pools, so that a swap goes where it is to be tried, whatever another pool pays."""

from collections.abc import Sequence

from service.chains.venue import PoolRef
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Choice, SwapMode
from service.routing import NoRouteError, find_route
from service.routing.exact import route_of
from service.routing.paths import PathFinder
from service.routing.quoting import Quoter


class PinnedQuoter(Quoter):
    """Quotes through the pools that are pinned, each with the same share of the amount, while some are.

    Attributes:
        pinned: The ids of the pools; empty: it quotes as the service does.
    """

    pinned: Sequence[str] = ()

    async def best(
        self, mode: SwapMode, token_in: str, token_out: str, amount: int, *, within_s: float | None = None
    ) -> Choice:
        """Return the route through the pinned pools; see ``Quoter.best``.

        Raises:
            NoRouteError: One of them cannot take its share.
        """
        if not self.pinned:
            return await super().best(mode, token_in, token_out, amount, within_s=within_s)
        pools = [pool for pool in self._venue.pools(token_in, token_out) if pool.id in self.pinned]
        if len(pools) < len(self.pinned):
            raise NoRouteError(Failure.of(FailureCode.NO_ROUTE), ())
        timeout_s = self._timeout_s if within_s is None else max(0, min(self._timeout_s, within_s))
        choices = [
            await self._through(pool, mode, (token_in, token_out), share, timeout_s)
            for pool, share in zip(pools, _shares(amount, len(pools)), strict=True)
        ]
        paths = [path for choice in choices for path in choice.route.paths]
        return Choice(
            tuple(quote for choice in choices for quote in choice.quotes), route_of(mode, paths), None
        )

    async def _through(
        self, pool: PoolRef, mode: SwapMode, pair: tuple[str, str], amount: int, timeout_s: float
    ) -> Choice:
        answers = await self._read({pool.dex: [pool]}, timeout_s)
        snapshots = answers[pool.dex]
        if snapshots is None:
            raise NoRouteError(Failure.of(FailureCode.QUOTES_UNAVAILABLE), ())
        return await self._turns.run(find_route(amount, PathFinder(*pair, snapshots, self._limits, mode), ()))


def _shares(amount: int, count: int) -> list[int]:
    """Return equal parts of an amount; the first has what is left over."""
    share = amount // count
    return [amount - share * (count - 1), *[share] * (count - 1)]
