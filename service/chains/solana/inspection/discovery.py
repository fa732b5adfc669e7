"""Finds the pools of a pair by getProgramAccounts, which many providers forbid or bill."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from solders.pubkey import Pubkey

from service.amm import AmmError
from service.amm.account import Account
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_dlmm_account import LbPairAccount
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.inspection import Discovery, FoundPool, InspectionError, one_line
from service.chains.solana.feed.pools import ListedPool, program_name
from service.chains.solana.inspection.pools import PoolsRead, read_pools
from service.chains.solana.inspection.tokens import read_mints
from service.chains.solana.inspection.trials import PoolTrial
from service.chains.solana.programs.registry import AmmPrograms, ProgramIds
from service.chains.solana.rpc.answers import Answer, NotAnAnswerError
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.tokens import UnsupportedMintError, read_mint
from service.chains.venue import VenueUnavailableError
from service.domain.tokens import Token, is_mint, nameless

# A node reads through all accounts of the program.
_TIMEOUT_S = 60.0


class _Place(NamedTuple):
    """Where the account of a program's pools has the mints of its two tokens."""

    account: type[Account]
    mint_a: str
    mint_b: str

    def filters(self, mint_a: str, mint_b: str) -> list[dict[str, object]]:
        """Return what a node compares accounts with: the size, and both mints."""
        at = {
            field.name: field.metadata["offset"]
            for field in dataclasses.fields(self.account)
            if "offset" in field.metadata
        }
        return [
            {"dataSize": self.account.SIZE},
            {"memcmp": {"offset": at[self.mint_a], "bytes": mint_a}},
            {"memcmp": {"offset": at[self.mint_b], "bytes": mint_b}},
        ]


_PLACES = {
    "raydium_cpmm": _Place(CpmmPoolAccount, "mint_0", "mint_1"),
    "raydium_amm_v4": _Place(AmmV4Account, "coin_mint", "pc_mint"),
    "meteora_dlmm": _Place(LbPairAccount, "mint_x", "mint_y"),
    "meteora_damm_v2": _Place(DammV2Account, "mint_a", "mint_b"),
}
"""The programs by their names in the list of pools."""


async def discover(
    endpoints: Endpoints,
    programs: AmmPrograms,
    known: Sequence[Token],
    listed: Collection[str],
    names: tuple[str, str],
) -> Discovery:
    """Find the pools of two tokens, and say of each what it holds and charges, and whether it can be used.

    Args:
        endpoints: Where to look.
        programs: The cluster's AMM programs.
        known: The tokens that may be traded.
        listed: The addresses of the pools that are listed already.
        names: The tokens' symbols or mints.

    Raises:
        InspectionError: A token is not known, or cannot be traded; or both are the same.
        RpcError: A call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    tokens = await _tokens(endpoints, known, names)
    unlisted = [token.mint for token in tokens if token not in known]
    pools: list[ListedPool] = []
    problems: list[str] = []
    for program in _PLACES:
        try:
            pools += await find_pools(endpoints, programs.ids, program, (tokens[0].mint, tokens[1].mint))
        except (RpcError, VenueUnavailableError) as error:
            problems.append(one_line(f"{program}: {error}"))
    read = await read_pools(endpoints, programs, pools, {token.mint: token for token in tokens}.get)
    unusable = f"{unlisted[0]} is not in SOLANA_TOKENS" if unlisted else None

    def found(pool: ListedPool) -> FoundPool:
        program = program_name(pool.program, programs.ids)
        return _found(program, str(pool.address), tokens, read, unusable, listed)

    return Discovery(sorted(map(found, pools), key=_size_in(tokens[0]), reverse=True), problems)


async def _tokens(
    endpoints: Endpoints, known: Sequence[Token], names: tuple[str, str]
) -> tuple[Token, Token]:
    """Return the tokens that are named; one that is not listed is known by its mint."""
    found = []
    for name in names:
        token = next((each for each in known if name in (each.symbol, each.mint)), None)
        if token is None and not is_mint(name):
            raise InspectionError(f"{one_line(name)} is not in SOLANA_TOKENS: add it, or name it by its mint")
        found.append(token or await _unlisted(endpoints, name))
    first, second = found
    if first.mint == second.mint:
        raise InspectionError("a pool has two different tokens")
    return first, second


async def _unlisted(endpoints: Endpoints, address: str) -> Token:
    account = (await read_mints(endpoints, [address])).get(address)
    if account is None:
        raise InspectionError(f"the mint {address} does not exist on this cluster")
    try:
        return nameless(address, read_mint(account.owner, account.data).decimals)
    except (AmmError, UnsupportedMintError) as error:
        raise InspectionError(f"{address} cannot be traded: {error}") from error


def _found(
    program: str,
    address: str,
    tokens: tuple[Token, Token],
    read: PoolsRead,
    unusable: str | None,
    listed: Collection[str],
) -> FoundPool:
    pool = read.pools.get(address)
    if pool is None:
        unread = one_line(read.problems[address])
        return FoundPool(program, address, tokens, None, None, unread, address in listed)
    trial = PoolTrial(pool)
    a, b = pool.tokens
    problem = trial.refusal or unusable
    return FoundPool(program, address, (a, b), pool.vaults, trial.fee_ppm, problem, address in listed)


def _size_in(token: Token) -> Callable[[FoundPool], int]:
    """Return what sorts pools by their reserves of a token; those that could not be read are the smallest."""

    def size(pool: FoundPool) -> int:
        return -1 if pool.reserves is None else pool.reserves[pool.tokens.index(token)]

    return size


async def find_pools(
    endpoints: Endpoints, ids: ProgramIds, program: str, mints: tuple[str, str]
) -> Sequence[ListedPool]:
    """Return a program's pools of two tokens, whichever is the first.

    Args:
        endpoints: Where to look.
        ids: The programs' addresses.
        program: The program's name.
        mints: The tokens' mints.

    Raises:
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    owner = getattr(ids, program)
    found: dict[str, None] = {}
    for first, second in (mints, mints[::-1]):
        config = {
            "encoding": "base64",
            "commitment": "confirmed",
            # The accounts are read later, each with what belongs to it.
            "dataSlice": {"offset": 0, "length": 0},
            "filters": _PLACES[program].filters(first, second),
        }
        answer = await endpoints.read(
            "getProgramAccounts", [str(owner), config], timeout_s=_TIMEOUT_S, parse=_addresses
        )
        found.update(dict.fromkeys(answer.result))
    return [ListedPool(owner, Pubkey.from_string(address)) for address in found]


def _addresses(answer: Answer) -> list[str]:
    match answer.result:
        case list(accounts):
            addresses = [each.get("pubkey") if isinstance(each, dict) else None for each in accounts]
            if all(isinstance(each, str) and is_mint(each) for each in addresses):
                return [str(each) for each in addresses]
    raise NotAnAnswerError("it did not answer with a list of accounts")
