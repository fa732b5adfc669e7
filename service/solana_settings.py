"""The settings of the Solana venue, read only if it is the venue.

They are texts and numbers here. ``service.chains.solana.setup`` reads keys and lists, and checks the rest.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from marshmallow import ValidationError

from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.mode import TradingMode
from service.environment import Variables, invalid

_SOL_DECIMALS = 9
_OF_OTHER_CLUSTERS = ("SOLANA_SIGNER", "SOLANA_POOLS", "SOLANA_TOKENS")
# Beside the paper market's data: the orders of one are not those of the other.
SANDBOX_FOLDER = "sandbox"


class Cluster(StrEnum):
    """The clusters that can be traded on."""

    SANDBOX = "sandbox"
    DEVNET = "devnet"
    MAINNET = "mainnet-beta"  # real money moves there, and nowhere else


@dataclass(frozen=True, slots=True)
class SolanaSettings:
    """How to trade on Solana; docs/configuration.md explains each setting.

    Attributes:
        rpc_urls: The endpoints, with their keys; None: a chain in this process.
        pools: A list of pools in TOML.
        tokens: A list of tokens in TOML.
        max_fee: Lamports.
        sol_reserve: Lamports.
        simulates: Whether transactions are only simulated.
        real_money: The wallet that may sell real money, as its owner confirms.
    """

    cluster: Cluster
    rpc_urls: str | None = field(repr=False)
    websocket_url: str | None = field(repr=False)
    signer: str | None = field(repr=False)
    signer_timeout_s: int
    pools: Path
    tokens: Path
    priority: str
    max_fee: int
    max_snapshot_slots: int
    sol_reserve: int
    simulates: bool
    real_money: str | None

    @property
    def mode(self) -> TradingMode:
        """Whether real money moves."""
        if self.simulates:
            return TradingMode.SIMULATE
        return TradingMode.LIVE if self.cluster is Cluster.MAINNET else TradingMode.PAPER

    @property
    def has_own_chain(self) -> bool:
        """Whether the chain runs in the service's process, and is kept in its data folder."""
        return self.cluster is Cluster.SANDBOX and self.rpc_urls is None


def read_solana(env: Variables, data_dir: Path) -> SolanaSettings:
    """Read the settings.

    Args:
        env: The environment.
        data_dir: The folder of all data.

    Raises:
        EnvError: A value is invalid; the message names the setting.
    """
    cluster = env.parsed("SOLANA_CLUSTER", Cluster.SANDBOX, _cluster)
    rpc_urls, signer = env.text("SOLANA_RPC_URLS"), env.text("SOLANA_SIGNER")
    websocket_url = env.text("SOLANA_WS_URL")
    if cluster is Cluster.SANDBOX:
        for name in _OF_OTHER_CLUSTERS:
            if env.text(name) is not None:
                # With a wallet of the user's own it could trade elsewhere than it was meant to.
                raise invalid(name, "the sandbox has a wallet, pools and tokens of its own")
        if rpc_urls is None and websocket_url is not None:
            raise invalid("SOLANA_WS_URL", "the sandbox in this process has one of its own")
    else:
        for name, value in (("SOLANA_RPC_URLS", rpc_urls), ("SOLANA_SIGNER", signer)):
            if value is None:
                raise invalid(name, f"the cluster {cluster} needs it")
    return SolanaSettings(
        cluster=cluster,
        rpc_urls=rpc_urls,
        websocket_url=websocket_url,
        signer=signer,
        # Longer than a transaction can land would be no use.
        signer_timeout_s=env.integer("SOLANA_SIGNER_TIMEOUT_S", 5, 1, 30),
        pools=env.parsed("SOLANA_POOLS", str(data_dir / "solana" / "pools.toml"), _file),
        tokens=env.parsed("SOLANA_TOKENS", str(data_dir / "solana" / "tokens.toml"), _file),
        priority=env.text("SOLANA_PRIORITY") or "p75",
        max_fee=env.parsed("SOLANA_MAX_FEE", "0.001", _lamports),
        max_snapshot_slots=env.integer("SOLANA_MAX_SNAPSHOT_SLOTS", 10, 1, 150),
        sol_reserve=env.parsed("SOLANA_SOL_RESERVE", "0.05", _lamports),
        simulates=env.parsed("SOLANA_MODE", "live", _mode) == "simulate",
        real_money=env.text("SOLANA_REAL_MONEY"),
    )


def _cluster(text: str) -> Cluster:
    if text not in tuple(Cluster):
        raise ValidationError("must be sandbox, devnet or mainnet-beta")
    return Cluster(text)


def _mode(text: str) -> str:
    if text not in ("live", "simulate"):
        raise ValidationError("must be live or simulate")
    return text


def _file(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValidationError(str(error)) from error


def _lamports(text: str) -> int:
    if text == "0":
        return 0
    try:
        return parse_amount(text, _SOL_DECIMALS)
    except InvalidAmountError as error:
        raise ValidationError(f"must be an amount of SOL: {error}") from None
