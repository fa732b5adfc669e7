"""Reads listed pools once: what they hold, and why some cannot be read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.amm import ChainTime, PoolState
from service.chains.solana.feed.accounts import ClockSysvar, read_accounts
from service.chains.solana.feed.pools import (
    FeedPool,
    ListedPool,
    TokenOf,
    UnreadablePoolError,
    groups_of,
    program_name,
)
from service.chains.solana.programs.pool import OnChainPool
from service.chains.solana.programs.registry import AmmPrograms, ProgramIds
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.venue import PoolRef
from service.domain.tokens import Token

# A pool's accounts become known in steps, and a node may answer from an older slot in between.
_MOST_READS = 6


@dataclass(frozen=True, slots=True)
class ReadPool:
    """A pool as it was read.

    Attributes:
        program: The name of its program.
        ref: The pool for the router.
        tokens: Its two tokens; A first.
        opened: Its addresses.
        state: What it quotes from.
        vaults: What its vaults hold, in base units.
        now: The time of a quote.
        slot: The slot of the state.
    """

    program: str
    ref: PoolRef
    tokens: tuple[Token, ...]
    opened: OnChainPool
    state: PoolState
    vaults: tuple[int, int]
    now: ChainTime
    slot: int


@dataclass(frozen=True, slots=True)
class PoolsRead:
    """What became of a list of pools.

    Attributes:
        pools: Those that could be read, by address.
        problems: Why the others could not, by address.
        reads_per_poll: How many calls read all that could be read.
    """

    pools: Mapping[str, ReadPool]
    problems: Mapping[str, str]
    reads_per_poll: int


async def read_pools(
    endpoints: Endpoints, programs: AmmPrograms, listed: Iterable[ListedPool], token_of: TokenOf
) -> PoolsRead:
    """Read pools as the feed does, each until its state is known.

    Args:
        endpoints: Where to read.
        programs: The cluster's AMM programs.
        listed: The pools.
        token_of: The tokens that they may have.

    Raises:
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    pools = [FeedPool(each, programs, token_of, _ignore) for each in listed]
    problems: dict[str, str] = {}
    clocks: dict[str, ClockSysvar] = {}
    for _ in range(_MOST_READS):
        waiting = [pool for pool in pools if pool.id not in problems and pool.id not in clocks]
        for group in groups_of(waiting):
            await _read(endpoints, group, problems, clocks)
    read = {
        pool.id: found
        for pool in pools
        if (found := _found(pool, clocks.get(pool.id), programs.ids)) is not None
    }
    unknown = "its accounts are not known after several reads"
    problems.update({pool.id: unknown for pool in pools if pool.id not in read and pool.id not in problems})
    return PoolsRead(read, problems, len(groups_of(pool for pool in pools if pool.id in read)))


async def _read(
    endpoints: Endpoints, pools: Sequence[FeedPool], problems: dict[str, str], clocks: dict[str, ClockSysvar]
) -> None:
    keys = {pool.id: pool.keys for pool in pools}
    read = await read_accounts(endpoints, list(dict.fromkeys(key for each in keys.values() for key in each)))
    for pool in pools:
        try:
            pool.accept(read, keys[pool.id])
        except UnreadablePoolError as error:
            problems[pool.id] = str(error)
        else:
            # The extension of a DLMM pool's bitmap may name more of its bin arrays.
            if pool.reading is not None and set(pool.keys) <= set(keys[pool.id]):
                clocks[pool.id] = read.clock


def _found(pool: FeedPool, clock: ClockSysvar | None, ids: ProgramIds) -> ReadPool | None:
    if clock is None or pool.ref is None or pool.opened is None or pool.reading is None:
        return None
    return ReadPool(
        program_name(pool.opened.addresses.program, ids),
        pool.ref,
        pool.tokens,
        pool.opened,
        pool.reading.state,
        (pool.reading.vault_a, pool.reading.vault_b),
        ChainTime(clock.timestamp_s, clock.slot),
        pool.slot,
    )


def _ignore(_pool: FeedPool) -> None:
    """Do nothing when a quote misses an account: nothing is read again."""
