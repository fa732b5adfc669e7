"""What commands check before they start any server."""

import argparse
import json
import os
from pathlib import Path
from typing import NoReturn

import pytest
from solders.keypair import Keypair

from service import embedded
from service.cli import keys, serve
from service.domain.tokens import TOKENS
from service.settings import InvalidSettingError, Settings
from tests.support.settings import load_settings

POOLS = '[[pool]]\nprogram = "raydium_cpmm"\naddress = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"\n'
USDC = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
TOKEN_LIST = f'[[token]]\nsymbol = "USDC"\nmint = "{USDC}"\ndecimals = 6\n'
KEY = "WALLET_OF_THIS_TEST"


class ServersStartError(Exception):
    """The servers would be started now."""


@pytest.fixture
def devnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings that can be used; whatever starts the servers ends the test."""

    def start(*_: object, **__: object) -> NoReturn:
        raise ServersStartError

    monkeypatch.setattr(embedded, "start", start)
    monkeypatch.setenv(KEY, json.dumps(list(bytes(Keypair()))))
    for name, content in dict(TOKENS).items():
        monkeypatch.setitem(TOKENS, name, content)
    (tmp_path / "pools.toml").write_text(POOLS)
    (tmp_path / "tokens.toml").write_text(TOKEN_LIST)
    return {
        "VENUE": "solana",
        "DATA_DIR": str(tmp_path / "data"),
        "SOLANA_CLUSTER": "devnet",
        "SOLANA_RPC_URLS": "https://one.example",
        "SOLANA_SIGNER": f"env:{KEY}",
        "SOLANA_POOLS": str(tmp_path / "pools.toml"),
        "SOLANA_TOKENS": str(tmp_path / "tokens.toml"),
    }


def start(settings: Settings) -> None:
    serve.run(settings, argparse.Namespace())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOLANA_RPC_URLS", "one.example"),
        ("SOLANA_RPC_URLS", "https://one.example#send"),
        ("SOLANA_WS_URL", "https://one.example"),
        ("SOLANA_SIGNER", "env:NO_SUCH_KEY"),
        ("SOLANA_SIGNER", "file:/nowhere/id.json"),
        ("SOLANA_PRIORITY", "p0"),
        ("SOLANA_POOLS", "/nowhere/pools.toml"),
        ("SOLANA_TOKENS", "/nowhere/tokens.toml"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_the_start_before_anything_starts(
    devnet: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(InvalidSettingError, match=f'"{name}"'):
        start(load_settings(**{**devnet, name: value}))
    assert not Path(devnet["DATA_DIR"]).exists()


def test_so_does_the_list_of_tokens_that_a_key_may_be_limited_by(devnet: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError, match='"SOLANA_TOKENS"'):
        keys._run(load_settings(**{**devnet, "SOLANA_TOKENS": "/nowhere"}), argparse.Namespace())
    with pytest.raises(ServersStartError):
        keys._run(load_settings(**devnet), argparse.Namespace())


def test_the_wallets_key_is_out_of_the_environment_when_the_servers_start(devnet: dict[str, str]) -> None:
    with pytest.raises(ServersStartError):
        start(load_settings(**devnet))
    assert KEY not in os.environ
