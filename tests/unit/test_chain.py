"""The chain is built, and its settings are checked, before any server is started."""

import argparse
import json
import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest
from solders.keypair import Keypair

from service.chain import build_chain
from service.cli import main as commands
from service.domain.tokens import TOKENS
from service.settings import InvalidSettingError, Settings
from tests.support.clock import ManualClock
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

    monkeypatch.setattr(commands, "_servers", start)
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


def serve(settings: Settings) -> None:
    commands._serve(settings, argparse.Namespace())


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
        serve(load_settings(**{**devnet, name: value}))
    assert not Path(devnet["DATA_DIR"]).exists()


def test_so_does_the_list_of_tokens_that_a_key_may_be_limited_by(devnet: dict[str, str]) -> None:
    with pytest.raises(InvalidSettingError, match='"SOLANA_TOKENS"'):
        commands._keys(load_settings(**{**devnet, "SOLANA_TOKENS": "/nowhere"}), argparse.Namespace())
    with pytest.raises(ServersStartError):
        commands._keys(load_settings(**devnet), argparse.Namespace())


def test_the_wallets_key_is_out_of_the_environment_when_the_servers_start(devnet: dict[str, str]) -> None:
    with pytest.raises(ServersStartError):
        serve(load_settings(**devnet))
    assert KEY not in os.environ


def test_the_port_of_a_chain_in_this_process_is_given_back_if_a_setting_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound: list[socket.socket] = []
    create = socket.create_server

    def create_server(*arguments: object, **options: object) -> socket.socket:
        bound.append(create(*arguments, **options))  # type: ignore[arg-type]
        return bound[-1]

    monkeypatch.setattr(socket, "create_server", create_server)
    settings = load_settings(VENUE="solana", SOLANA_PRIORITY="p0")
    with pytest.raises(InvalidSettingError, match='"SOLANA_PRIORITY"'):
        build_chain(settings, ManualClock())
    assert [each.fileno() for each in bound] == [-1]


def test_the_paper_market_is_no_chain() -> None:
    assert build_chain(load_settings(), ManualClock()).venue is None
