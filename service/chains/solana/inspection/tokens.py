"""Checks of tokens: their mints on the chain, compared with the list."""

from collections.abc import Mapping, Sequence

from solders.pubkey import Pubkey

from service.amm import AmmError
from service.chains.inspection import Check
from service.chains.solana.addresses import TOKEN_PROGRAM
from service.chains.solana.feed.accounts import MOST_KEYS, OwnedData, read_accounts
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.tokens import UnsupportedMintError, read_mint
from service.domain.tokens import Token


async def read_mints(endpoints: Endpoints, addresses: Sequence[str]) -> dict[str, OwnedData]:
    """Return the accounts of mints by address; those that do not exist are left out.

    Raises:
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    found: dict[str, OwnedData] = {}
    for start in range(0, len(addresses), MOST_KEYS):
        keys = [Pubkey.from_string(each) for each in addresses[start : start + MOST_KEYS]]
        read = await read_accounts(endpoints, keys, commitment="confirmed")
        found.update({str(key): account for key, account in read.accounts.items()})
    return found


def check_tokens(tokens: Sequence[Token], mints: Mapping[str, OwnedData]) -> list[Check]:
    """Return whether the mints of tokens are what the list says.

    Args:
        tokens: As listed.
        mints: The accounts of the mints, by address.
    """
    return [_check(token, mints.get(token.mint)) for token in tokens]


def _check(token: Token, account: OwnedData | None) -> Check:
    subject = token.symbol
    if account is None:
        remedy = "correct its mint in SOLANA_TOKENS: each cluster has mints of its own"
        return Check.failed("token", subject, f"the mint {token.mint} does not exist here", remedy)
    try:
        mint = read_mint(account.owner, account.data)
    except (AmmError, UnsupportedMintError) as error:
        remedy = "take it out of SOLANA_TOKENS: it cannot be traded"
        return Check.failed("token", subject, f"{token.mint}: {error}", remedy)
    if mint.decimals != token.decimals:
        found = f"{mint.decimals} decimals on the chain, {token.decimals} in the list"
        return Check.failed("token", subject, found, "correct its decimals in SOLANA_TOKENS")
    program = "the token program" if mint.token_program == TOKEN_PROGRAM else "Token-2022"
    return Check.ok("token", subject, f"{token.mint}, {mint.decimals} decimals, of {program}")
