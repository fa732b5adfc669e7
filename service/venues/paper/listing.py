"""New pools, and new tokens, in a market that is running: on request, and on a schedule for demos."""

import hashlib
import logging
from dataclasses import dataclass
from itertools import count

from solders.pubkey import Pubkey

from service.background import Background
from service.clock import Clock
from service.domain.tokens import TOKENS, Token, look_alike
from service.venues.amm import AmmError
from service.venues.paper.chain import Chain
from service.venues.paper.founding import SHORT_NAMES, found_state
from service.venues.paper.ledger import Ledger
from service.venues.paper.pool import PaperPool, owed
from service.venues.paper.pool_json import METEORA_DAMM_V2, PROGRAMS, RAYDIUM_CPMM
from service.venues.venue import VenueUnavailableError

log = logging.getLogger(__name__)

# Every instance knows every pool, and the leader looks at each of them in every step.
_MOST_POOLS = 1_000

_DEMO_DECIMALS = 6
_DEMO_SUPPLY = 1_000_000 * 10**_DEMO_DECIMALS
_DEMO_SOL = 500 * 10**9


class CannotListError(Exception):
    """The pool cannot be listed; the message says why, for the client."""


class PoolExistsError(CannotListError):
    """There is such a pool, or such a token, already."""


@dataclass(frozen=True, slots=True)
class NewPool:
    """A pool to be listed. Amounts are base units; a token that is not known yet is listed with it."""

    program: str
    token_a: Token
    token_b: Token
    amount_a: int
    amount_b: int


def token_of(symbol: str, decimals: int) -> Token:
    """Return a token of the paper market; its mint follows from its symbol."""
    mint = Pubkey(hashlib.sha256(f"paper token {symbol}".encode()).digest())
    return Token(symbol, str(mint), decimals)


class Listings:
    """Lists pools.

    Args:
        ledger: where pools are.
        chain: told of new ones.
        clock: for the schedule.
        every_s: how often a new token is listed by itself; 0: never.
    """

    def __init__(self, ledger: Ledger, chain: Chain, clock: Clock, *, every_s: int) -> None:
        self._ledger = ledger
        self._chain = chain
        self._clock = clock
        self._every_s = every_s
        self._schedule = Background("paper listings", self._list_for_ever, clock)

    def start(self) -> None:
        """Begin the schedule, if there is one."""
        if self._every_s:
            self._schedule.start()

    async def stop(self) -> None:
        """End the schedule."""
        await self._schedule.stop()

    async def list_pool(self, wanted: NewPool) -> PaperPool:
        """List a pool; it can be quoted here when this returns.

        Raises:
            CannotListError: it exists already, or its program cannot make it.
            VenueUnavailableError: it may have been listed.
        """
        if len(self._chain.pools) >= _MOST_POOLS:
            raise CannotListError(f"The market has {_MOST_POOLS} pools, as many as it can.")
        slot = self._ledger.slot_now()
        pair = (wanted.token_a.symbol, wanted.token_b.symbol)
        dex = PROGRAMS[wanted.program]
        timestamp_s = self._ledger.seconds_at(slot)
        try:
            state = found_state(wanted.program, *pair, wanted.amount_a, wanted.amount_b, timestamp_s)
        except (AmmError, ValueError, ZeroDivisionError) as error:
            raise CannotListError("No pool of this program can hold these amounts.") from error
        pool = PaperPool(
            f"{dex}:{'-'.join(pair)}:{SHORT_NAMES[wanted.program]}",
            dex,
            wanted.program,
            *pair,
            state,
            *owed(state),
            slot,
        )
        tokens = [token for token in (wanted.token_a, wanted.token_b) if token.symbol not in TOKENS]
        agreed, listed = await self._ledger.list_pool(pool, tokens)
        if not agreed:
            raise PoolExistsError(
                "A token of this symbol, but for decimals or case, has been listed meanwhile."
            )
        if not listed:
            raise PoolExistsError(f"There is a pool {pool.id} already.")
        log.info("paper market: %s is listed", pool.id)
        await self._chain.announce_listing()
        return pool

    async def _list_for_ever(self) -> None:
        for number in count(1):
            await self._clock.sleep(self._every_s)
            symbol = f"NEW{number}"
            while symbol in TOKENS or look_alike(symbol):
                number += 1  # noqa: PLW2901 - those of earlier starts
                symbol = f"NEW{number}"
            if not self._chain.leading:
                continue
            program = RAYDIUM_CPMM if number % 2 else METEORA_DAMM_V2
            token = token_of(symbol, _DEMO_DECIMALS)
            try:
                await self.list_pool(NewPool(program, token, TOKENS["SOL"], _DEMO_SUPPLY, _DEMO_SOL))
            except (CannotListError, VenueUnavailableError) as error:
                log.warning("paper market: %s is not listed (%s)", symbol, error)
