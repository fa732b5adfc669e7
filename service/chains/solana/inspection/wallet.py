"""Checks of the wallet: its signer, and its SOL; and what it holds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from solders.pubkey import Pubkey

from service.chains.inspection import Check, HeldToken
from service.chains.solana.addresses import SYSTEM_PROGRAM, WRAPPED_SOL, associated_token_account
from service.chains.solana.feed.accounts import MOST_KEYS, OwnedData, read_accounts
from service.chains.solana.inspection.probe import probe_of
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.sending.signer import SignerUnavailableError, WalletSigner, sign_message
from service.chains.solana.tokens import token_amount
from service.domain.amounts import format_amount
from service.domain.tokens import TOKENS, Token

SOL = TOKENS["SOL"]

# An order may create an account for wrapped SOL, which is closed again, and one for the token that it buys.
_NEW_ACCOUNTS = 2


class OrderCosts(NamedTuple):
    """What the SOL of a wallet must be enough for, in lamports.

    Attributes:
        max_fee: The most that a transaction may cost.
        rent: Of one token account.
        reserve: What no order sells.
    """

    max_fee: int
    rent: int
    reserve: int

    @property
    def of_one_order(self) -> int:
        """What one order may need beside what it sells."""
        return self.max_fee + _NEW_ACCOUNTS * self.rent


async def check_signer(signer: WalletSigner, timeout_s: float) -> Check:
    """Return whether a signer signs within so many seconds, by a transaction that can never land."""
    address = signer.public_key
    try:
        await sign_message(signer, probe_of(address).signed_bytes, timeout_s)
    except SignerUnavailableError as error:
        return Check.failed("signer", str(address), str(error), "check SOLANA_SIGNER")
    return Check.ok("signer", str(address), "it signs, and the signature fits")


async def read_sol(endpoints: Endpoints, address: Pubkey) -> OwnedData:
    """Return the wallet's account.

    Raises:
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    read = await read_accounts(endpoints, [address], commitment="confirmed")
    return read.accounts.get(address, OwnedData(SYSTEM_PROGRAM, b""))


def check_sol(address: Pubkey, account: OwnedData, costs: OrderCosts, funding: str) -> Check:
    """Return whether a wallet's SOL is enough for fees and rent, and some of it can be sold.

    Args:
        address: The wallet.
        account: Its account.
        costs: What it must be enough for.
        funding: Where SOL comes from.
    """
    subject, lamports = str(address), account.lamports
    if account.owner != SYSTEM_PROGRAM:
        found = f"it is no wallet: its account belongs to {account.owner}"
        return Check.failed("sol", subject, found, "use another key: this one cannot pay fees")
    told = f"it holds {_sol(lamports)}"
    needed = costs.of_one_order
    if lamports < needed:
        found = f"{told}, and one order may need {_sol(needed)} for its fee and rent"
        return Check.failed("sol", subject, found, funding)
    if costs.reserve < needed:
        found = f"{told}, of which {_sol(costs.reserve)} are kept; one order may need {_sol(needed)}"
        return Check.warning("sol", subject, found, "raise SOLANA_SOL_RESERVE")
    if lamports <= costs.reserve:
        found = f"{told}, no more than SOLANA_SOL_RESERVE keeps ({_sol(costs.reserve)}): no SOL can be sold"
        return Check.warning("sol", subject, found, funding)
    return Check.ok("sol", subject, f"{told}; {_sol(costs.reserve)} of it are kept for fees and rent")


async def read_holdings(
    endpoints: Endpoints, address: Pubkey, tokens: Sequence[Token], mints: Mapping[str, OwnedData]
) -> list[HeldToken]:
    """Return what a wallet holds of tokens; nothing, if it has no account of one.

    Args:
        endpoints: Where to read.
        address: The wallet.
        tokens: The tokens; SOL is held by the wallet itself. Those without a mint are left out.
        mints: The accounts of their mints, by address; they say the token program.

    Raises:
        MalformedStateError: An account is not what it should be.
        RpcError: The call was refused.
        VenueUnavailableError: No endpoint answered.
    """
    held = {_account(address, token, mints): token for token in tokens if token.mint in mints}
    found: dict[Pubkey, OwnedData] = {}
    keys = list(held)
    for start in range(0, len(keys), MOST_KEYS):
        part = keys[start : start + MOST_KEYS]
        found.update((await read_accounts(endpoints, part, commitment="confirmed")).accounts)
    return [
        HeldToken(token, _amount(found.get(key), is_wallet=key == address), str(key))
        for key, token in held.items()
    ]


def _account(address: Pubkey, token: Token, mints: Mapping[str, OwnedData]) -> Pubkey:
    mint = Pubkey.from_string(token.mint)
    if mint == WRAPPED_SOL:
        return address
    return associated_token_account(address, mint, mints[token.mint].owner)


def _amount(account: OwnedData | None, *, is_wallet: bool) -> int:
    if account is None:
        return 0
    return account.lamports if is_wallet else token_amount(account.data)


def _sol(lamports: int) -> str:
    return f"{format_amount(lamports, SOL.decimals)} SOL"
