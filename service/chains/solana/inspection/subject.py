"""What is inspected: the parts of a Solana venue, each read from the settings when it is needed.

So a list that is missing does not keep the endpoints from being looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.chains.local_cluster import LocalCluster
from service.chains.solana.clusters import CLUSTERS
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.programs.registry import ProgramIds
from service.chains.solana.rpc.urls import RpcUrl
from service.chains.solana.sending.signer import WalletSigner
from service.chains.solana.setup import check_real_money, list_tokens, listed_pools, rpc_urls, wallet_signer
from service.domain.mode import TradingMode
from service.domain.tokens import TOKENS, Token
from service.solana_settings import Cluster, SolanaSettings

_FUNDING = {
    Cluster.DEVNET.value: "ask https://faucet.solana.com for test SOL, or 'solana airdrop 1 {} -u devnet'",
    Cluster.MAINNET.value: "send SOL to {}",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is inspected.

    Attributes:
        cluster: The cluster's name.
        genesis_hash: Its identity; None: that of the first endpoint that says it.
        ids: Its programs.
        urls: The endpoints.
        is_local: Whether it is a sandbox, which is young, has doubles of the programs, and lists of its own.
        max_fee: The most that a transaction may cost, in lamports.
        sol_reserve: Lamports that no order sells.
        hop_margin_bps: The margin between two legs.
        signer_timeout_s: How long the signer may take.
        pools_file: The list of pools.
        mode: Whether real money moves, or nothing does.
        check_limits: Checks what real money needs; it and the next three raise ``InvalidSettingError``.
        load_signer: Returns the wallet.
        load_tokens: Returns the tokens that may be traded.
        load_pools: Returns the listed pools.
    """

    cluster: str
    genesis_hash: str | None
    ids: ProgramIds
    urls: Sequence[RpcUrl]
    is_local: bool
    max_fee: int
    sol_reserve: int
    hop_margin_bps: int
    signer_timeout_s: float
    pools_file: Path
    mode: TradingMode
    check_limits: Callable[[WalletSigner], None]
    load_signer: Callable[[], WalletSigner]
    load_tokens: Callable[[], Sequence[Token]]
    load_pools: Callable[[], Sequence[ListedPool]]

    def funding(self, address: str) -> str:
        """Return where the wallet's SOL comes from."""
        return _FUNDING.get(self.cluster, "start the sandbox anew: its wallet is funded").format(address)


def subject_of(
    settings: SolanaSettings,
    hop_margin_bps: int,
    local: LocalCluster | None,
    check_limits: Callable[[], None],
) -> Subject:
    """Return what is inspected with these settings.

    Args:
        settings: The venue's settings.
        hop_margin_bps: The margin between the legs of one path.
        local: The sandbox, if that is the cluster.
        check_limits: Checks the limits of what orders sell, once the tokens are known.

    Raises:
        InvalidSettingError: The endpoints cannot be used; the message shows hosts only.
    """
    known = CLUSTERS[settings.cluster]

    def load_tokens() -> Sequence[Token]:
        return list(TOKENS.values()) if local is not None else list(list_tokens(settings).values())

    def check_money(signer: WalletSigner) -> None:
        check_real_money(settings, signer)
        load_tokens()
        check_limits()

    return Subject(
        cluster=settings.cluster.value,
        genesis_hash=known.genesis_hash,
        ids=known.ids,
        urls=rpc_urls(settings, local),
        is_local=local is not None,
        max_fee=settings.max_fee,
        sol_reserve=settings.sol_reserve,
        hop_margin_bps=hop_margin_bps,
        signer_timeout_s=settings.signer_timeout_s,
        pools_file=settings.pools,
        mode=settings.mode,
        check_limits=check_money,
        load_signer=lambda: wallet_signer(settings, local),
        load_tokens=load_tokens,
        load_pools=lambda: listed_pools(settings, local),
    )
