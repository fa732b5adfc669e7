"""What a smoke test is asked for, and the settings that follow from it."""

import argparse
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from service.clock import Clock
from service.smoke.options import (
    SmokeError,
    SmokeOptions,
    add_options,
    check_real_money,
    load_settings,
    read_options,
)
from service.solana_settings import Cluster


def read(*arguments: str, **environment: str) -> SmokeOptions:
    parser = argparse.ArgumentParser()
    add_options(parser)
    with patch.dict(os.environ, environment, clear=True):
        return read_options(parser.parse_args(arguments))


def test_it_trades_on_the_cluster_of_the_settings_unless_another_is_named() -> None:
    assert read() == SmokeOptions(Cluster.SANDBOX, "0.01", 200, use_servers=False)
    assert read(SOLANA_CLUSTER="devnet").cluster is Cluster.DEVNET
    named = read("--cluster", "sandbox", "--amount", "0.5", "--slot-ms", "40", SOLANA_CLUSTER="devnet")
    assert named == SmokeOptions(Cluster.SANDBOX, "0.5", 40, use_servers=False)
    with pytest.raises(SmokeError, match="SOLANA_CLUSTER must be one of sandbox, devnet"):
        read(SOLANA_CLUSTER="testnet")


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000000001", "much"])
def test_what_is_no_amount_of_sol_is_refused(amount: str) -> None:
    with pytest.raises(SmokeError, match=r"^--amount "):
        read(f"--amount={amount}")


def test_real_money_is_traded_only_if_that_is_said() -> None:
    with pytest.raises(SmokeError, match="real money: say so with --real-money"):
        check_real_money("mainnet-beta", agreed=False)
    check_real_money("mainnet-beta", agreed=True)
    check_real_money(Cluster.DEVNET, agreed=False)


def test_a_sandbox_gets_nothing_of_the_users_wallet_and_the_instances_are_this_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {
        "SOLANA_CLUSTER": "devnet",
        "SOLANA_SIGNER": "env:KEY",
        "SOLANA_RPC_URLS": "https://devnet.example/key",
        "DATABASE_URL": "postgresql:///mine",
        "HOST": "203.0.113.7",
        "CRASH_AT": "after claim",
        "DATA_DIR": str(tmp_path),
    }
    with patch.dict(os.environ, environment, clear=True):
        options = SmokeOptions(Cluster.SANDBOX, "0.01", 200, use_servers=False)
        loaded, folder = load_settings(options, Clock(1))
        assert loaded.solana is not None
        assert loaded.solana.has_own_chain
        assert (loaded.solana.signer, loaded.database_url) == (None, None)
        assert (loaded.host, loaded.crash_at) == ("127.0.0.1", None)
        assert loaded.data_dir == folder
        assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path / "smoke", 0o700)
        mine, _ = load_settings(SmokeOptions(Cluster.SANDBOX, "0.01", 200, use_servers=True), Clock(2))
        assert mine.database_url == "postgresql:///mine"


def test_the_endpoints_of_a_sandbox_that_runs_already_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "http://127.0.0.1:8899"
    with patch.dict(os.environ, {"SOLANA_RPC_URLS": url, "DATA_DIR": str(tmp_path)}, clear=True):
        loaded, _ = load_settings(SmokeOptions(Cluster.SANDBOX, "0.01", 200, use_servers=False), Clock(1))
        assert loaded.solana is not None
        assert loaded.solana.rpc_urls == url
