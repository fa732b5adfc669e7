"""Builds the Solana venue from its settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from service.chains.local_cluster import LocalCluster
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.auditing.audit import SolanaAudit
from service.chains.solana.clusters import CLUSTERS
from service.chains.solana.feed.feed import FeedSettings
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.fees import read_priority
from service.chains.solana.lists import InvalidListError, read_pools, read_tokens
from service.chains.solana.options import SolanaOptions
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.urls import (
    InvalidRpcUrlsError,
    RpcUrl,
    parse_rpc_urls,
    parse_websocket_url,
    websocket_url,
)
from service.chains.solana.sending.signer import InvalidSignerError, LocalSigner, WalletSigner, load_signer
from service.chains.solana.sending.watched import WatchedWallet, load_watched
from service.chains.solana.venue import SolanaVenue
from service.clock import Clock
from service.domain.mode import TradingMode
from service.domain.tokens import TOKENS, Token, find_token, set_mint
from service.hosts import is_loopback
from service.settings import InvalidSettingError
from service.solana_settings import Cluster, SolanaSettings

T = TypeVar("T")
V = TypeVar("V")

# An audit leaves the rest of an endpoint's calls per second to the service.
_SHARE_OF_AN_AUDIT = 4


def build_solana(
    settings: SolanaSettings, hop_margin_bps: int, clock: Clock, local: LocalCluster | None
) -> SolanaVenue:
    """Return the venue; it is not connected before it starts.

    Args:
        settings: How to trade.
        hop_margin_bps: The margin between the legs of one path, as the router has it.
        clock: Measures time.
        local: The sandbox, if that is the cluster.

    Raises:
        InvalidSettingError: A setting cannot be used; the message names it, and shows no key.
    """
    known = CLUSTERS[settings.cluster]
    urls = rpc_urls(settings, local)
    options = SolanaOptions(
        settings.mode,
        _read("SOLANA_PRIORITY", read_priority, settings.priority),
        settings.max_fee,
        settings.sol_reserve,
        hop_margin_bps,
        known.genesis_hash,
        signer_timeout_s=settings.signer_timeout_s,
        feed=FeedSettings(max_snapshot_slots=settings.max_snapshot_slots),
    )
    token_of: Callable[[str], Token | None] = find_token
    listed = listed_pools(settings, local)
    if local is None:
        token_of = list_tokens(settings).get
    signer = wallet_signer(settings, local)
    if settings.mode is TradingMode.LIVE:
        check_real_money(settings, signer)
    websocket = _websocket(settings, urls)
    return SolanaVenue(
        Endpoints(urls, clock, known.genesis_hash, websocket),
        AmmPrograms(known.ids),
        listed,
        token_of,
        signer,
        clock,
        options,
        websocket,
    )


def listed_pools(settings: SolanaSettings, local: LocalCluster | None) -> Sequence[ListedPool]:
    """Return the pools to trade in: a sandbox's own, or those of the list.

    Raises:
        InvalidSettingError: The list cannot be used.
    """
    if local is not None:
        return [
            ListedPool(Pubkey.from_string(program), Pubkey.from_string(at)) for program, at in local.pools
        ]
    ids = CLUSTERS[settings.cluster].ids
    return _read("SOLANA_POOLS", lambda file: read_pools(file, ids), settings.pools)


def wallet_signer(settings: SolanaSettings, local: LocalCluster | None) -> WalletSigner:
    """Return the wallet: a sandbox's own, or that of the settings.

    Raises:
        InvalidSettingError: There is none that can be used; the message shows no key.
    """
    if local is not None:
        keys = Keypair.from_bytes(local.wallet_key)
        return WatchedWallet(keys.pubkey()) if settings.simulates else LocalSigner(keys)
    given = settings.signer or ""
    if settings.simulates:
        return _read("SOLANA_SIGNER", load_watched, given)
    if given.startswith("address:"):
        raise _invalid("SOLANA_SIGNER", "an address cannot sign; it is enough with SOLANA_MODE=simulate")
    return _read("SOLANA_SIGNER", load_signer, given)


def build_audit(
    settings: SolanaSettings, clock: Clock, since: datetime | None, local: LocalCluster | None
) -> SolanaAudit:
    """Return the comparison of the orders with the chain; it needs neither a signer nor lists.

    Args:
        settings: Where to read.
        clock: Measures time.
        since: Only what has changed from this time on; None: everything.
        local: The sandbox to read, if it is one.

    Raises:
        InvalidSettingError: There is no endpoint, or one cannot be used.
    """
    urls = [
        each if each.rps is None else replace(each, rps=max(1, each.rps // _SHARE_OF_AN_AUDIT))
        for each in rpc_urls(settings, local)
    ]
    return SolanaAudit(urls, AmmPrograms(CLUSTERS[settings.cluster].ids), clock, since)


def check_real_money(settings: SolanaSettings, signer: WalletSigner) -> None:
    """Refuse to sell real money unless the owner has named the wallet.

    The messages do not show it: whoever sets the variable must know which wallet it is.

    Raises:
        InvalidSettingError: It is not named, or is another one.
    """
    if settings.real_money is None:
        raise _invalid(
            "SOLANA_REAL_MONEY",
            f"not set: on {settings.cluster} orders sell real money. If you want that, set it to the public"
            " key of the wallet that may do so; or try your orders with SOLANA_MODE=simulate",
        )
    if settings.real_money != str(signer.public_key):
        raise _invalid(
            "SOLANA_REAL_MONEY",
            "it is not the public key of the wallet in SOLANA_SIGNER; find out which wallet that is",
        )


def list_tokens(settings: SolanaSettings) -> Mapping[str, Token]:
    """Make the tokens of a cluster known, and return them by their mints: SOL, and those of the list.

    A token of this service that the list has too gets the list's mint: USDC has another one on devnet.

    Raises:
        InvalidSettingError: The list cannot be used.
    """
    tokens = [TOKENS["SOL"]]
    for token in _read("SOLANA_TOKENS", read_tokens, settings.tokens):
        if token.mint == str(WRAPPED_SOL) or token.symbol == "SOL":
            raise _invalid("SOLANA_TOKENS", "SOL is always there, and is left out")
        try:
            tokens.append(set_mint(token))
        except ValueError as error:
            raise _invalid("SOLANA_TOKENS", error) from None
    return {token.mint: token for token in tokens}


def rpc_urls(settings: SolanaSettings, local: LocalCluster | None) -> Sequence[RpcUrl]:
    """Return the endpoints.

    Raises:
        InvalidSettingError: The list cannot be used; the message shows hosts only.
    """
    given = local.url if local is not None and local.url is not None else settings.rpc_urls
    urls = _read("SOLANA_RPC_URLS", parse_rpc_urls, given or "")
    if settings.cluster is Cluster.SANDBOX:
        for url in urls:
            if not is_loopback(url.host):
                raise _invalid("SOLANA_RPC_URLS", f"{url.name}: a sandbox runs on this machine")
    return urls


def _websocket(settings: SolanaSettings, urls: Sequence[RpcUrl]) -> RpcUrl | None:
    given = settings.websocket_url
    if given == "none":
        return None
    reader = next(url for url in urls if url.reads)
    if given is None:
        return replace(reader, url=websocket_url(reader.url))
    found = _read("SOLANA_WS_URL", parse_websocket_url, given)
    if settings.cluster is Cluster.SANDBOX and not is_loopback(found.host):
        raise _invalid("SOLANA_WS_URL", "a sandbox runs on this machine")
    return found


def _read(name: str, read: Callable[[V], T], value: V) -> T:
    try:
        return read(value)
    except (InvalidRpcUrlsError, InvalidSignerError, InvalidListError, ValueError) as error:
        raise _invalid(name, error) from None


def _invalid(name: str, reason: object) -> InvalidSettingError:
    return InvalidSettingError(f'Environment variable "{name}" invalid: {reason}')
