"""The Solana venue from its settings: lists of pools and tokens, endpoints, and errors that show no key."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from solders.keypair import Keypair

from service.chains.solana.clusters import CLUSTERS
from service.chains.solana.lists import InvalidListError, read_pools, read_tokens
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.sending.watched import WatchedWallet
from service.chains.solana.setup import build_audit, build_solana, list_tokens
from service.chains.solana.venue import SolanaVenue
from service.domain.mode import TradingMode
from service.domain.tokens import Token, find_token
from service.sandbox.embedded import sandbox_elsewhere
from service.settings import InvalidSettingError
from service.solana_settings import Cluster, SolanaSettings
from tests.support.clock import ManualClock
from tests.support.settings import load_settings

USDC_THERE = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
POOL = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
POOLS = f'[[pool]]\nprogram = "raydium_cpmm"\naddress = "{POOL}"\n'
TOKEN_LIST = f'[[token]]\nsymbol = "USDC"\nmint = "{USDC_THERE}"\ndecimals = 6\n'
STRANGER = "5YBsviFL9nDLAeZJgFzYuaxyyYPRKAZwbEnsh4RmzkiG"
SECRET = "topsecret"


pytestmark = pytest.mark.usefixtures("forget_tokens")


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "solana").mkdir()
    (tmp_path / "solana" / "pools.toml").write_text(POOLS)
    (tmp_path / "solana" / "tokens.toml").write_text(TOKEN_LIST)
    key = tmp_path / "id.json"
    key.touch(mode=0o600)
    key.write_text(json.dumps(list(bytes(Keypair()))))
    return tmp_path


def settings_for(folder: Path, **variables: str) -> SolanaSettings:
    devnet = {
        "SOLANA_CLUSTER": "devnet",
        "SOLANA_RPC_URLS": f"https://one.example/{SECRET}",
        "SOLANA_SIGNER": f"file:{folder}/id.json",
    }
    solana = load_settings(VENUE="solana", DATA_DIR=str(folder), **{**devnet, **variables}).solana
    assert solana is not None
    return solana


def build(folder: Path, **variables: str) -> SolanaVenue:
    return build_solana(settings_for(folder, **variables), 5, ManualClock(), None)


def build_on_sandbox(**variables: str) -> SolanaVenue:
    clock = ManualClock()
    solana = load_settings(VENUE="solana", DATA_DIR="/data", **variables).solana
    assert solana is not None
    return build_solana(solana, 5, clock, sandbox_elsewhere(clock))


def test_devnet_has_its_own_programs_and_no_real_money(lists: Path) -> None:
    venue = build(lists)
    assert venue.mode is TradingMode.PAPER
    assert CLUSTERS[Cluster.DEVNET].ids.raydium_cpmm != MAINNET.raydium_cpmm
    assert venue._endpoints.genesis_hash == CLUSTERS[Cluster.DEVNET].genesis_hash
    assert find_token("USDC") == Token("USDC", USDC_THERE, 6)


def wallet_of(folder: Path) -> str:
    return str(Keypair.from_bytes(bytes(json.loads((folder / "id.json").read_text()))).pubkey())


def test_mainnet_trades_real_money_with_the_wallet_that_its_owner_names(lists: Path) -> None:
    venue = build(lists, SOLANA_CLUSTER="mainnet-beta", SOLANA_REAL_MONEY=wallet_of(lists))
    assert (venue.mode, venue.address) == (TradingMode.LIVE, wallet_of(lists))
    known = CLUSTERS[Cluster.MAINNET]
    assert (known.ids, venue._endpoints.genesis_hash) == (MAINNET, known.genesis_hash)


@pytest.mark.parametrize("given", ["", "yes", "1", STRANGER])
def test_real_money_needs_the_wallets_own_name_and_no_error_tells_it(lists: Path, given: str) -> None:
    with pytest.raises(InvalidSettingError, match='"SOLANA_REAL_MONEY"') as error:
        build(lists, SOLANA_CLUSTER="mainnet-beta", SOLANA_REAL_MONEY=given)
    assert "\n" not in str(error.value)
    assert wallet_of(lists) not in str(error.value)


@pytest.mark.parametrize("cluster", ["devnet", "mainnet-beta"])
def test_a_simulation_needs_an_address_only(lists: Path, cluster: str) -> None:
    wallet = str(Keypair().pubkey())
    (lists / "id.json").unlink()
    simulated = {"SOLANA_CLUSTER": cluster, "SOLANA_SIGNER": f"address:{wallet}"}
    venue = build(lists, **simulated, SOLANA_MODE="simulate")
    assert (venue.mode, venue.address) == (TradingMode.SIMULATE, wallet)
    with pytest.raises(InvalidSettingError, match='"SOLANA_SIGNER" invalid: an address cannot sign'):
        build(lists, **simulated)


def test_a_simulation_on_a_sandbox_has_no_key() -> None:
    venue = build_on_sandbox(SOLANA_RPC_URLS="http://127.0.0.1:8899", SOLANA_MODE="simulate")
    assert isinstance(venue._preparer._signer, WatchedWallet)
    assert venue.address == build_on_sandbox(SOLANA_RPC_URLS="http://127.0.0.1:8899").address


def test_only_what_is_listed_can_be_traded_there(lists: Path) -> None:
    listed = list_tokens(settings_for(lists))
    assert [token.symbol for token in listed.values()] == ["SOL", "USDC"]


def test_a_sandbox_of_another_process_is_found_by_its_seed() -> None:
    venue = build_on_sandbox(SOLANA_RPC_URLS="http://127.0.0.1:8899#both;rps=9")
    assert venue.address == build_on_sandbox(SOLANA_RPC_URLS="http://[::1]:1", SOLANA_WS_URL="none").address


def test_the_calls_per_second_of_an_endpoint_hold_for_its_websocket(lists: Path) -> None:
    venue = build(lists, SOLANA_RPC_URLS="https://one.example/#send,https://two.example/#read;rps=7")
    assert venue._notifications is not None
    assert venue._notifications._name == "two.example"
    assert venue._notifications._budget.rate == 7


def test_a_websocket_of_its_own_has_calls_per_second_of_its_own(lists: Path) -> None:
    rpc = f"https://one.example/{SECRET};rps=7"
    for given, rate in ((f"wss://two.example/{SECRET};rps=9", 9), ("wss://two.example", None)):
        venue = build(lists, SOLANA_RPC_URLS=rpc, SOLANA_WS_URL=given)
        assert venue._notifications is not None
        assert venue._notifications._name == "two.example"
        assert venue._notifications._url == given.removesuffix(";rps=9") + ("" if rate else "/")
        assert venue._notifications._budget.rate == rate


async def test_the_wallet_can_be_another_machines(lists: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = Keypair().pubkey()
    for field, value in {
        "API_BASE_URL": "https://vault.example",
        "TOKEN": SECRET,
        "KEY_NAME": "trading",
        "PUBLIC_KEY": str(wallet),
    }.items():
        monkeypatch.setenv(f"SOLANA_SIGNER_{field}", value)
    venue = build(lists, SOLANA_SIGNER="keychain:vault", SOLANA_SIGNER_TIMEOUT_S="20")
    assert venue.address == str(wallet)
    assert venue._preparer._options.signer_timeout_s == 20
    await venue.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOLANA_RPC_URLS", f"https://{SECRET}@one.example/{SECRET}?key={SECRET}"),
        ("SOLANA_RPC_URLS", f"ftp://127.0.0.1/{SECRET}"),
        ("SOLANA_WS_URL", f"wss://{SECRET}@one.example/{SECRET}"),
    ],
)
def test_a_sandbox_is_on_this_machine_and_an_error_shows_no_key(name: str, value: str) -> None:
    with pytest.raises(InvalidSettingError, match=f'"{name}"') as error:
        build_on_sandbox(**{"SOLANA_RPC_URLS": "http://127.0.0.1:8899", name: value})
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOLANA_RPC_URLS", f"{SECRET}"),
        ("SOLANA_WS_URL", f"https://one.example/{SECRET}"),
        ("SOLANA_WS_URL", f"wss://[{SECRET}"),
        ("SOLANA_WS_URL", f"wss://one.example/{SECRET};rps=0"),
        ("SOLANA_WS_URL", f"wss://one.example/{SECRET};rps=10001"),
        ("SOLANA_WS_URL", f"wss://one.example/{SECRET}#read"),
        ("SOLANA_WS_URL", f"wss://one.example/;rps=1;{SECRET}"),
        ("SOLANA_PRIORITY", "p0"),
        ("SOLANA_SIGNER", f"[{SECRET}]"),
        ("SOLANA_SIGNER", f"env:[{SECRET}]"),
        ("SOLANA_SIGNER", f"env:{SECRET}"),
        ("SOLANA_SIGNER", f"file:[{SECRET}]"),
        ("SOLANA_SIGNER", "file:/nowhere/id.json"),
        ("SOLANA_SIGNER", f"keychain:{SECRET}"),
        ("SOLANA_SIGNER", "keychain:vault"),
        ("SOLANA_SIGNER", "env:NO_SUCH_KEY"),
        ("SOLANA_POOLS", "/nowhere/pools.toml"),
        ("SOLANA_TOKENS", "/nowhere/tokens.toml"),
    ],
)
def test_what_cannot_be_used_is_named_and_not_shown(lists: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidSettingError, match=f'"{name}"') as error:
        build(lists, **{name: value})
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[[pool]]", "pool = 1", "pool = [1]", "[[token]]\n", POOLS + POOLS, "\xff"),
        POOLS + "other = 1",
        POOLS.replace("raydium_cpmm", "raydium"),
        POOLS.replace(POOL, POOL[:-9]),
        POOLS.replace(f'"{POOL}"', "7"),
    ],
)
def test_a_list_of_pools_with_a_fault_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pools.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidListError, match=str(file)):
        read_pools(file, MAINNET)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[[token]]",
            TOKEN_LIST + TOKEN_LIST,
            TOKEN_LIST.replace("6", "19"),
            TOKEN_LIST.replace("6", "true"),
        ),
        TOKEN_LIST.replace("USDC", "US DC"),
        TOKEN_LIST.replace(USDC_THERE, "0" * 40),
    ],
)
def test_a_list_of_tokens_with_a_fault_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    with pytest.raises(InvalidListError, match=str(file)):
        read_tokens(file)


def test_a_list_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text(POOLS + POOLS * (1_000_000 // len(POOLS)))
    with pytest.raises(InvalidListError, match="has more than 1000000 bytes"):
        read_pools(file, MAINNET)


@pytest.mark.parametrize(
    ("old", "new"), [("USDC", "SOL"), ("USDC", "usdc"), ("decimals = 6", "decimals = 9")]
)
def test_a_list_cannot_change_what_a_token_means(lists: Path, old: str, new: str) -> None:
    (lists / "solana" / "tokens.toml").write_text(TOKEN_LIST.replace(old, new))
    with pytest.raises(InvalidSettingError, match='"SOLANA_TOKENS"'):
        list_tokens(settings_for(lists))


def test_an_audit_leaves_most_calls_to_the_service_and_reads_no_key(lists: Path) -> None:
    (lists / "id.json").unlink()
    (lists / "solana" / "pools.toml").unlink()
    urls = "https://one.example/#read;rps=25,https://two.example/;rps=3,https://three.example/"
    audit = build_audit(settings_for(lists, SOLANA_RPC_URLS=urls), ManualClock(), None, None)
    assert [each.rps for each in audit._urls] == [6, 1, None]


def test_a_sandbox_is_audited_where_it_answers() -> None:
    solana = load_settings(VENUE="solana").solana
    assert solana is not None
    local = replace(sandbox_elsewhere(ManualClock()), url="http://127.0.0.1:8898/")
    assert [each.url for each in build_audit(solana, ManualClock(), None, local)._urls] == [local.url]
