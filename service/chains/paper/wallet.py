"""What the user's wallet holds of single tokens, by the ledger."""

from collections.abc import Mapping

from service.chains.paper.ledger import Ledger
from service.chains.paper.market import USER
from service.chains.paper.reference import PRICES
from service.chains.venue import Balance, VenueUnavailableError
from service.clock import Clock
from service.postgres.batch import Batcher


class PaperWallet:
    """Reads balances, any number of them with one statement.

    Args:
        ledger: The paper chain's ledger.
        clock: For the batches.
        funded: The configured funding by token, in base units; of the other tokens that the market opened
            with, the wallet has plenty.
        group_limit: The maximum number of reads that share a statement.
    """

    def __init__(self, ledger: Ledger, clock: Clock, *, funded: Mapping[str, int], group_limit: int) -> None:
        self._ledger = ledger
        self._funded = funded
        self._reads = Batcher(
            self._read_group,
            clock=clock,
            name="paper balances",
            # Reads of the same token share a statement too.
            key=lambda _token: object(),
            largest=group_limit,
            patient=False,
        )

    async def stop(self) -> None:
        """Wait until every pending read is finished, unless PostgreSQL is unavailable."""
        await self._reads.stop()

    def is_unlimited(self, token: str) -> bool:
        """Return whether the wallet has plenty of a token."""
        return token in PRICES and token not in self._funded

    async def balance(self, token: str) -> Balance:
        """Return what the wallet holds of a token, as last committed.

        Raises:
            VenueUnavailableError: PostgreSQL is unavailable.
        """
        return await self._reads.submit(token)

    async def _read_group(self, tokens: list[str]) -> list[Balance | Exception]:
        wanted = set(tokens)
        try:
            found = await self._ledger.balances(USER, len(wanted), tokens=wanted)
        except VenueUnavailableError as error:
            # Otherwise each would be read again by itself.
            return [error] * len(tokens)
        held = {token.symbol: balance for token, balance in found}
        return [held.get(token, Balance()) for token in tokens]
