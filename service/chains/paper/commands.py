"""Commands that list or delist a pool: each is a durable row, executed by the leader."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypedDict

from service.chains.paper.market import Market
from service.chains.paper.pool import Origin, PaperPool
from service.chains.paper.pool_json import PoolJson, pool_from_row, pool_id, pool_row
from service.domain.tokens import Token

MOST_LISTED = 500
"""Maximum number of listed pools: every instance holds every pool, and reads them all at its start."""

MOST_SCHEDULED = 50
"""Maximum number of scheduled pools among them; a further one replaces the oldest."""


class Verdict(StrEnum):
    """The result of a command."""

    LISTED = "listed"
    DELISTED = "delisted"
    EXISTS = "exists"  # there is a pool of this program and these tokens
    OTHER_TOKEN = "other token"  # noqa: S105 - the symbol belongs to another token
    FULL = "full"
    UNKNOWN = "unknown"  # no such pool
    GENESIS = "genesis"  # pools of the genesis cannot be delisted
    REFUSED = "refused"  # rejected by PostgreSQL


@dataclass(frozen=True, slots=True)
class ListPool:
    """A pool to be listed, and its two tokens, which may be new."""

    pool: PaperPool
    tokens: tuple[Token, Token]


@dataclass(frozen=True, slots=True)
class DelistPool:
    """A pool to be delisted."""

    pool_id: str


@dataclass(frozen=True, slots=True)
class Command:
    """A request to list or delist a pool, with its id."""

    id: str
    wanted: ListPool | DelistPool


class TokenBody(TypedDict):
    """A token of a pool that is to be listed."""

    symbol: str
    mint: str
    decimals: int


class CommandBody(TypedDict, total=False):
    """What is stored of a command: the id of the pool to be taken off, or a pool and its tokens."""

    delist: str
    tokens: Sequence[TokenBody]
    list: PoolJson


def encode(command: Command) -> CommandBody:
    """Return a command's stored form."""
    wanted = command.wanted
    if isinstance(wanted, DelistPool):
        return {"delist": wanted.pool_id}
    return {"list": pool_row(wanted.pool), "tokens": [_token_body(token) for token in wanted.tokens]}


def decode(command_id: str, body: CommandBody) -> Command:
    """Return a command from its stored form."""
    if "delist" in body:
        return Command(command_id, DelistPool(body["delist"]))
    token_a, token_b = (Token(**token) for token in body["tokens"])
    return Command(command_id, ListPool(pool_from_row(body["list"]), (token_a, token_b)))


def _token_body(token: Token) -> TokenBody:
    return {"symbol": token.symbol, "mint": token.mint, "decimals": token.decimals}


class Registrar:
    """Executes a group of commands on a market.

    Args:
        market: The market that they change.
        tokens: Every token whose symbol, ignoring case, or mint is named by the commands.
    """

    def __init__(self, market: Market, tokens: Iterable[Token]) -> None:
        self._market = market
        self._known: dict[str, Token] = {}
        for token in tokens:
            self._know(token)
        self.new_tokens: list[Token] = []
        """The tokens that the group has listed."""

    def execute(self, commands: Iterable[Command], slot: int) -> dict[str, Verdict]:
        """Execute commands, and return their verdicts by id.

        It stops before a command that lists a pool again that this group has delisted: one commit cannot
        contain both.
        """
        verdicts: dict[str, Verdict] = {}
        for command in commands:
            wanted = command.wanted
            if isinstance(wanted, DelistPool):
                verdicts[command.id] = self._delist(wanted.pool_id)
            elif self._market.has_closed(wanted.pool.id):
                break
            else:
                verdicts[command.id] = self._list(wanted, slot)
        return verdicts

    def _list(self, wanted: ListPool, slot: int) -> Verdict:
        pool, market = replace(wanted.pool, opened_slot=slot), self._market
        ids = (pool_id(pool.program, *pair) for pair in (pool.pair, pool.pair[::-1]))
        if any(each in market.pools for each in ids):
            return Verdict.EXISTS
        if not all(self._agrees(token) for token in wanted.tokens):
            return Verdict.OTHER_TOKEN
        if not self._make_room(pool.origin):
            return Verdict.FULL
        for token in wanted.tokens:
            if token.symbol not in self._known:
                self._know(token)
                self.new_tokens.append(token)
        market.add_pool(pool)
        return Verdict.LISTED

    def _delist(self, wanted: str) -> Verdict:
        pool = self._market.pools.get(wanted)
        if pool is None:
            return Verdict.UNKNOWN
        if pool.origin is Origin.GENESIS:
            return Verdict.GENESIS
        self._market.remove_pool(wanted)
        return Verdict.DELISTED

    def _make_room(self, origin: Origin) -> bool:
        """Return whether there is room for one more pool; a scheduled one may replace the oldest one."""
        pools = self._market.pools.values()
        scheduled = [pool for pool in pools if pool.origin is Origin.SCHEDULED]
        listed = len(scheduled) + sum(pool.origin is Origin.LISTED for pool in pools)
        if (
            origin is Origin.SCHEDULED
            and scheduled
            and (len(scheduled) >= MOST_SCHEDULED or listed >= MOST_LISTED)
        ):
            oldest = min(scheduled, key=lambda pool: (pool.opened_slot, pool.id))
            self._market.remove_pool(oldest.id)
            return True
        return listed < MOST_LISTED

    def _agrees(self, token: Token) -> bool:
        names = (token.symbol, token.symbol.lower(), token.mint)
        known = next((self._known[name] for name in names if name in self._known), token)
        return known == token

    def _know(self, token: Token) -> None:
        self._known.setdefault(token.symbol.lower(), token)
        self._known[token.symbol] = self._known[token.mint] = token
