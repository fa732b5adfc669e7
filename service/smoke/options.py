"""What a smoke test is asked for, and the settings that follow from it."""

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

from service import settings
from service.clock import Clock
from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.timestamps import format_epoch
from service.domain.tokens import TOKENS
from service.settings import Settings
from service.solana_settings import Cluster

FOLDER = "smoke"
"""The folder of all smoke tests, in ``DATA_DIR``."""

_MAINNET = "mainnet-beta"
_SLOT_MS = 200
# Of other clusters than a sandbox, which refuses them.
_OF_A_WALLET = ("SOLANA_SIGNER", "SOLANA_POOLS", "SOLANA_TOKENS")
_OF_AN_ENDPOINT = ("SOLANA_RPC_URLS", "SOLANA_WS_URL")


class SmokeError(Exception):
    """The smoke test cannot begin; the message says why."""


@dataclass(frozen=True, slots=True)
class SmokeOptions:
    """What is asked for.

    Attributes:
        cluster: Where to trade.
        amount: How much SOL each swap sells, in display units.
        slot_ms: The length of a slot of the local chain.
        use_servers: Whether to use the servers of the settings, not embedded ones.
    """

    cluster: Cluster
    amount: str
    slot_ms: int
    use_servers: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    parser.add_argument("--cluster", choices=list(Cluster), type=Cluster, help="default: SOLANA_CLUSTER")
    parser.add_argument("--amount", default="0.01", metavar="SOL", help="of each swap; default: 0.01")
    parser.add_argument("--real-money", action="store_true", help=f"needed for {_MAINNET}")
    parser.add_argument(
        "--use-servers",
        action="store_true",
        help="use the servers of DATABASE_URL and REDIS_URL, which must be for this test alone",
    )
    parser.add_argument(
        "--slot-ms", type=int, default=_SLOT_MS, help="of the local chain; default: as on mainnet, 200"
    )


def read_options(arguments: argparse.Namespace) -> SmokeOptions:
    """Return what is asked for.

    Raises:
        SmokeError: It cannot be done.
    """
    cluster = arguments.cluster or os.environ.get("SOLANA_CLUSTER") or Cluster.SANDBOX
    try:
        cluster = Cluster(cluster)
        parse_amount(arguments.amount, TOKENS["SOL"].decimals)
    except InvalidAmountError as error:
        raise SmokeError(f"--amount {error}") from None
    except ValueError:
        raise SmokeError(f"SOLANA_CLUSTER must be one of {', '.join(Cluster)}") from None
    check_real_money(cluster, agreed=arguments.real_money)
    if arguments.slot_ms < 1:
        raise SmokeError("--slot-ms must be greater than zero")
    return SmokeOptions(cluster, arguments.amount, arguments.slot_ms, arguments.use_servers)


def check_real_money(cluster: str, *, agreed: bool) -> None:
    """Do not trade real money unless that is asked for.

    Raises:
        SmokeError: It is not.
    """
    if cluster == _MAINNET and not agreed:
        raise SmokeError(f"on {_MAINNET} the smoke test trades real money: say so with --real-money")


def load_settings(options: SmokeOptions, clock: Clock) -> tuple[Settings, Path]:
    """Return the settings of the test, and a new folder for it; the environment has them from now on.

    Raises:
        InvalidSettingError: A setting has an invalid value.
        SmokeError: There is no such folder.
    """
    set_environment(options)
    loaded = settings.load()
    # A sandbox in the service's own process would have a folder of its own.
    own_chain = loaded.solana is not None and loaded.solana.has_own_chain
    root = loaded.data_dir.parent if own_chain else loaded.data_dir
    began = format_epoch(clock.time_ms() // 1000).replace(".000000", "").replace(":", "-")
    folder = root / FOLDER / f"{began}-{clock.new_write_id()[:4]}"
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise SmokeError(f"{folder}: {error.strerror}") from None
    if not options.use_servers:
        loaded = replace(loaded, database_url=None, redis_url=None)
    return replace(loaded, data_dir=folder), folder


def set_environment(options: SmokeOptions) -> None:
    """Set the environment's variables that follow from the options: this process's, and its children's."""
    wanted = {"VENUE": "solana", "SOLANA_CLUSTER": str(options.cluster), "CRASH_AT": ""}
    # This machine alone uses the test's instances, as fast as they are.
    wanted |= {"HOST": "127.0.0.1", "PORT": "0", "ALLOWED_HOSTS": "", "TRUSTED_PROXIES": "", "ROOT_PATH": ""}
    wanted |= {"REQUESTS_PER_SECOND": "0", "QUEUE_RATE_LIMIT": "0", "LOG_LEVEL": "INFO"}
    if options.cluster is Cluster.SANDBOX:
        wanted |= dict.fromkeys(_OF_A_WALLET, "")
        if os.environ.get("SOLANA_CLUSTER") not in (None, "", Cluster.SANDBOX):
            wanted |= dict.fromkeys(_OF_AN_ENDPOINT, "")
    os.environ.update(wanted)
