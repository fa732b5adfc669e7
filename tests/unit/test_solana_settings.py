"""The settings of the Solana venue: what a sandbox needs, what another cluster, and what stops the start."""

from pathlib import Path

import pytest

from service.chains.factory import trading_mode
from service.domain.key_limits import LargestAmount
from service.domain.mode import TradingMode
from service.settings import InvalidSettingError, Settings
from service.solana_settings import Cluster, SolanaSettings
from tests.support.settings import load_settings

DEVNET = {"SOLANA_CLUSTER": "devnet", "SOLANA_RPC_URLS": "https://one.example/", "SOLANA_SIGNER": "env:KEY"}


def on_solana(**variables: str) -> tuple[Settings, SolanaSettings]:
    loaded = load_settings(VENUE="solana", DATA_DIR="/data", **variables)
    assert loaded.solana is not None
    return loaded, loaded.solana


def test_a_sandbox_needs_nothing_but_the_venue() -> None:
    loaded, solana = on_solana()
    assert (solana.cluster, solana.has_own_chain) == (Cluster.SANDBOX, True)
    assert loaded.data_dir == Path("/data/sandbox")
    assert (loaded.worker_concurrency, loaded.outcome_timeout_ms) == (50, 45_000)
    assert (solana.priority, solana.max_fee, solana.sol_reserve) == ("p75", 1_000_000, 50_000_000)
    assert (solana.max_snapshot_slots, solana.signer_timeout_s) == (10, 5)


def test_with_the_paper_market_none_of_them_is_read() -> None:
    loaded = load_settings(SOLANA_CLUSTER="nowhere", SOLANA_MAX_FEE="x")
    assert loaded.solana is None
    assert (loaded.worker_concurrency, loaded.outcome_timeout_ms) == (10, 10_000)


def test_the_defaults_of_the_venue_can_be_changed() -> None:
    loaded, solana = on_solana(WORKER_CONCURRENCY="3", OUTCOME_TIMEOUT_MS="4", SOLANA_MAX_FEE="0.5")
    assert (loaded.worker_concurrency, loaded.outcome_timeout_ms, solana.max_fee) == (3, 4, 500_000_000)


def test_a_sandbox_of_another_process_keeps_its_orders_with_all_data() -> None:
    loaded, solana = on_solana(SOLANA_RPC_URLS="http://127.0.0.1:8899")
    assert not solana.has_own_chain
    assert loaded.data_dir == Path("/data")


def test_another_cluster_has_its_lists_in_the_data_folder() -> None:
    loaded, solana = on_solana(**DEVNET)
    assert (solana.cluster, solana.has_own_chain) == (Cluster.DEVNET, False)
    assert loaded.data_dir == Path("/data")
    assert solana.pools == Path("/data/solana/pools.toml")
    assert solana.tokens == Path("/data/solana/tokens.toml")


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("VENUE", {"VENUE": "ethereum"}),
        ("SOLANA_RPC_URLS", {"SOLANA_CLUSTER": "mainnet-beta"}),
        ("SOLANA_MODE", {"SOLANA_MODE": "paper"}),
        # The sandbox has no list of tokens, so none of it can be named.
        ("MAX_DAY_AMOUNTS", {"MAX_DAY_AMOUNTS": "GEM=1"}),
        ("MAX_DAY_AMOUNTS", {**DEVNET, "MAX_DAY_AMOUNTS": "GEM=1,GEM=2"}),
        ("MAX_DAY_AMOUNTS", {**DEVNET, "MAX_DAY_AMOUNTS": "G M=1"}),
        ("SOLANA_CLUSTER", {"SOLANA_CLUSTER": "testnet"}),
        ("SOLANA_SIGNER", {"SOLANA_SIGNER": "env:KEY"}),
        ("SOLANA_POOLS", {"SOLANA_POOLS": "pools.toml"}),
        ("SOLANA_TOKENS", {"SOLANA_TOKENS": "tokens.toml"}),
        ("SOLANA_WS_URL", {"SOLANA_WS_URL": "none"}),
        ("SOLANA_RPC_URLS", {**DEVNET, "SOLANA_RPC_URLS": ""}),
        ("SOLANA_SIGNER", {**DEVNET, "SOLANA_SIGNER": ""}),
        ("SOLANA_POOLS", {**DEVNET, "SOLANA_POOLS": "~nosuchuser/x"}),
        ("SOLANA_MAX_FEE", {"SOLANA_MAX_FEE": "0.0000000001"}),
        ("SOLANA_MAX_FEE", {"SOLANA_MAX_FEE": "-1"}),
        ("SOLANA_SOL_RESERVE", {"SOLANA_SOL_RESERVE": "much"}),
        ("SOLANA_MAX_SNAPSHOT_SLOTS", {"SOLANA_MAX_SNAPSHOT_SLOTS": "0"}),
        ("SOLANA_SIGNER_TIMEOUT_S", {"SOLANA_SIGNER_TIMEOUT_S": "31"}),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, variables: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError, match=f'"{name}"'):
        load_settings(**{"VENUE": "solana", "DATA_DIR": "/data", **variables})


@pytest.mark.parametrize(
    ("cluster", "mode", "expected"),
    [
        ("devnet", "live", TradingMode.PAPER),
        ("mainnet-beta", "live", TradingMode.LIVE),
        ("devnet", "simulate", TradingMode.SIMULATE),
        ("mainnet-beta", "simulate", TradingMode.SIMULATE),
    ],
)
def test_only_on_mainnet_real_money_is_traded(cluster: str, mode: str, expected: TradingMode) -> None:
    loaded, solana = on_solana(**{**DEVNET, "SOLANA_CLUSTER": cluster, "SOLANA_MODE": mode})
    assert solana.mode is trading_mode(loaded) is expected
    assert trading_mode(on_solana()[0]) is TradingMode.PAPER


def test_the_tokens_of_a_list_can_be_limited_before_it_is_read() -> None:
    loaded, _ = on_solana(**DEVNET, MAX_ORDER_AMOUNTS="GEM=2.50, SOL=1")
    assert loaded.max_order_amounts == {"GEM": LargestAmount(25, 1), "SOL": LargestAmount(10**9, 9)}


def test_no_representation_shows_a_key() -> None:
    loaded, _ = on_solana(
        **{**DEVNET, "SOLANA_RPC_URLS": "https://x.example/topsecret", "SOLANA_WS_URL": "wss://topsecret@x"}
    )
    assert "topsecret" not in repr(loaded)
