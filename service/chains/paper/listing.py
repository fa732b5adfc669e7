"""Lists new pools and tokens in a running market: on request, and on a schedule for demos."""

import hashlib
import logging
from dataclasses import dataclass
from itertools import count

from solders.pubkey import Pubkey

from service.amm import AmmError
from service.background import Background
from service.chains.paper.chain import Chain
from service.chains.paper.command_queue import CommandQueue
from service.chains.paper.commands import MOST_LISTED, Command, DelistPool, ListPool, Verdict
from service.chains.paper.genesis import initial_state
from service.chains.paper.ledger import Ledger
from service.chains.paper.pool import Origin, PaperPool
from service.chains.paper.pool_json import METEORA_DAMM_V2, PROGRAMS, RAYDIUM_CPMM, pool_id
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.domain.tokens import TOKENS, Token, is_mint, look_alike, nameless
from service.postgres.batch import Batcher, QueueFullError
from service.postgres.database import UnavailableError

log = logging.getLogger(__name__)

_MOST_WAITING = 100
_TIMEOUT_S = 10.0
_POLL_AFTER_S = 0.25
_LONGEST_PAUSE_S = 1.0

_DEMO_DECIMALS = 6
_DEMO_SUPPLY = 1_000_000 * 10**_DEMO_DECIMALS
_DEMO_SOL = 500 * 10**9


class CannotListError(Exception):
    """The pool cannot be listed; the message says why, for the client."""


class PoolExistsError(CannotListError):
    """The pool, or another token of this symbol, already exists."""


class NoRoomError(CannotListError):
    """The maximum number of listed pools is reached."""


class NoSuchPoolError(Exception):
    """There is no pool of this id."""


class GenesisPoolError(Exception):
    """The pool belongs to the market and cannot be delisted."""


@dataclass(frozen=True, slots=True)
class NewPool:
    """A pool to be listed. Amounts are in base units; unknown tokens are listed with it."""

    program: str
    token_a: Token
    token_b: Token
    amount_a: int
    amount_b: int


def token_of(name: str, decimals: int) -> Token:
    """Return a new token, named by a symbol, from which its mint is derived, or by its mint alone."""
    if is_mint(name):
        return nameless(name, decimals)
    mint = Pubkey(hashlib.sha256(f"paper token {name}".encode()).digest())
    return Token(name, str(mint), decimals)


class Listings:
    """Lists and delists pools by commands to the leader.

    Args:
        ledger: For the current slot.
        commands: The queue of commands.
        chain: Executes commands, or receives their verdicts.
        clock: For the schedule and ids.
        every_s: How often a new token is listed automatically; 0 is never.
    """

    def __init__(
        self, ledger: Ledger, commands: CommandQueue, chain: Chain, clock: Clock, *, every_s: int
    ) -> None:
        self._ledger = ledger
        self._commands = commands
        self._chain = chain
        self._clock = clock
        self._every_s = every_s
        self._additions = Batcher(
            self._add_group,
            clock=clock,
            name="paper commands",
            key=lambda command: command.id,
            largest=_MOST_WAITING,
            limit=_MOST_WAITING,
            patient=False,
        )
        self._schedule = Background("paper listings", self._list_forever, clock)

    def start(self) -> None:
        """Start the schedule, if it is enabled."""
        if self._every_s:
            self._schedule.start()

    async def stop(self) -> None:
        """Stop the schedule."""
        await self._schedule.stop()
        await self._additions.stop()

    async def list_pool(self, wanted: NewPool, origin: Origin = Origin.LISTED) -> PaperPool:
        """List a pool; it can be quoted here when this returns.

        Raises:
            CannotListError: It exists, its program cannot hold these amounts, or the limit is reached.
            QueueFullError: Too many requests are waiting; it is not listed.
            VenueUnavailableError: It may have been listed, or may be soon.
        """
        pool = self._pool(wanted, origin)
        match await self._execute(ListPool(pool, (wanted.token_a, wanted.token_b))):
            case Verdict.LISTED:
                pass
            case Verdict.EXISTS:
                raise PoolExistsError(f"A {pool.program} pool of {' and '.join(pool.pair)} already exists.")
            case Verdict.OTHER_TOKEN:
                raise PoolExistsError(
                    "A token of this symbol with other decimals or another case has been listed meanwhile."
                )
            case Verdict.FULL:
                raise NoRoomError(f"The maximum of {MOST_LISTED} listed pools is reached: delist one.")
            case _:
                raise CannotListError("The market cannot store this pool.")
        if pool.id not in self._chain.catalogue.pools:
            await self._chain.catalogue.refresh()
        log.info("paper market: %s is listed", pool.id)
        return pool

    async def delist_pool(self, pool_id: str) -> None:
        """Delist a pool; it can no longer be quoted here when this returns.

        Raises:
            NoSuchPoolError: There is no such pool.
            GenesisPoolError: It belongs to the genesis.
            QueueFullError: Too many requests are waiting; it is not delisted.
            VenueUnavailableError: It may have been delisted, or may be soon.
        """
        match await self._execute(DelistPool(pool_id)):
            case Verdict.UNKNOWN:
                raise NoSuchPoolError("There is no such pool.")
            case Verdict.GENESIS:
                raise GenesisPoolError("The pool belongs to the market: only listed pools can be removed.")
        if pool_id in self._chain.catalogue.pools:
            await self._chain.catalogue.refresh()
        log.info("paper market: %s is delisted", pool_id)

    def _pool(self, wanted: NewPool, origin: Origin) -> PaperPool:
        """Return the pool to list; the leader sets its slot."""
        slot = self._ledger.slot_now()
        pair = (wanted.token_a.symbol, wanted.token_b.symbol)
        amounts = (wanted.amount_a, wanted.amount_b)
        try:
            state = initial_state(wanted.program, *pair, *amounts, self._ledger.seconds_at(slot))
        except (AmmError, ValueError, ZeroDivisionError) as error:
            raise CannotListError("No pool of this program can hold these amounts.") from error
        return PaperPool(
            pool_id(wanted.program, *pair),
            PROGRAMS[wanted.program],
            wanted.program,
            *pair,
            state,
            *amounts,
            slot,
            origin,
        )

    async def _execute(self, wanted: ListPool | DelistPool) -> Verdict:
        """Have the leader execute a command, on whichever instance, and return its verdict."""
        command = Command(self._clock.new_command_id(), wanted)
        try:
            await self._additions.submit(command)
        except UnavailableError as error:
            raise VenueUnavailableError(str(error)) from error
        deadline, pause_s = self._clock.monotonic() + _TIMEOUT_S, _POLL_AFTER_S
        while self._clock.monotonic() < deadline:
            verdict = await self._chain.verdict(command.id, pause_s)
            if verdict is None:
                verdict = (await self._commands.verdicts([command.id])).get(command.id)
            if verdict is not None:
                return verdict
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise VenueUnavailableError("the command has not been executed yet")

    async def _add_group(self, commands: list[Command]) -> list[None]:
        await self._commands.add(commands)
        self._chain.look_for_commands()
        return [None] * len(commands)

    async def _list_forever(self) -> None:
        for number in count(1):
            await self._clock.sleep(self._every_s)
            symbol = f"NEW{number}"
            while symbol in TOKENS or look_alike(symbol):
                number += 1  # noqa: PLW2901 - skips tokens of earlier starts
                symbol = f"NEW{number}"
            if not self._chain.leading:
                continue
            program = RAYDIUM_CPMM if number % 2 else METEORA_DAMM_V2
            token = token_of(symbol, _DEMO_DECIMALS)
            try:
                await self.list_pool(
                    NewPool(program, token, TOKENS["SOL"], _DEMO_SUPPLY, _DEMO_SOL), Origin.SCHEDULED
                )
            except (CannotListError, QueueFullError, VenueUnavailableError) as error:
                log.warning("paper market: %s is not listed (%s)", symbol, error)
