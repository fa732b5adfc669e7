"""``python -m service doctor``, ``wallet`` and ``pools`` in processes of their own, without any server."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import run_command
from tests.support.servers import TestServers

SECRET = "topsecret"


@pytest.fixture
def solana(tmp_path: Path) -> dict[str, str]:
    """Return settings of devnet whose endpoint does not exist, and whose lists are not written yet."""
    return {
        "VENUE": "solana",
        "DATA_DIR": str(tmp_path),
        "SOLANA_CLUSTER": "devnet",
        "SOLANA_RPC_URLS": f"http://127.0.0.1:9/{SECRET}",
        "SOLANA_SIGNER": f"file:{tmp_path}/id.json",
    }


def results(text: str) -> dict[str, list[dict[str, Any]]]:
    """Return the checks of a JSON report by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for check in json.loads(text)["checks"]:
        found.setdefault(check["check"], []).append(check)
    return found


def test_the_own_sandbox_needs_no_server_and_everything_is_well(tmp_path: Path) -> None:
    made = run_command({"VENUE": "solana", "DATA_DIR": str(tmp_path)}, "doctor", "--json")
    assert made.returncode == 0, made.stdout
    report = json.loads(made.stdout)
    assert (report["warning"], report["failed"]) == (0, 0)
    found = results(made.stdout)
    assert len(found["pool"]) == 44
    assert {each["result"] for each in report["checks"]} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_the_paper_market_is_checked_for_what_it_needs(tmp_path: Path) -> None:
    made = run_command({"DATA_DIR": str(tmp_path), "MAX_ORDER_AMOUNTS": "SOL=5"}, "doctor")
    assert made.returncode == 0, made.stderr
    names = [line.split(":")[0].split(None, 1)[1] for line in made.stdout.splitlines()[:-1]]
    assert names == ["settings", "limits", "postgresql", "redis", "data folder"]
    assert "at most 5 SOL per order" in made.stdout
    assert made.stdout.splitlines()[-1] == "5 ok, 0 warning, 0 failed"


def test_servers_are_asked_if_their_urls_are_given(servers: TestServers, tmp_path: Path) -> None:
    made = run_command({**servers.environment, "DATA_DIR": str(tmp_path)}, "doctor", "--json")
    found = results(made.stdout)
    assert found["postgresql"][0]["found"] == "DATABASE_URL answers; its schema is up to date"
    assert found["redis"][0]["found"] == "REDIS_URL answers"
    assert "data folder" not in found
    (tmp_path / "file").touch()
    nowhere = {
        "DATABASE_URL": f"postgresql://user:{SECRET}@127.0.0.1:9/oee",
        "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:9",
    }
    failed = run_command(nowhere, "doctor", "--json")
    found = results(failed.stdout)
    assert failed.returncode == 1
    assert (found["postgresql"][0]["result"], found["redis"][0]["result"]) == ("failed", "warning")
    assert SECRET not in failed.stdout + failed.stderr
    folder = run_command({"DATA_DIR": str(tmp_path / "file" / "data")}, "doctor", "--json")
    assert results(folder.stdout)["data folder"][0]["result"] == "failed"


def test_a_user_without_anything_is_told_what_to_do(solana: dict[str, str]) -> None:
    made = run_command(solana, "doctor", "--json")
    assert made.returncode == 1
    found = results(made.stdout)
    assert found["endpoint"][0]["found"] == "no answer: it cannot be connected to"
    assert "wallet new" in found["signer"][0]["remedy"]
    assert SECRET not in made.stdout + made.stderr
    assert "Traceback" not in made.stderr


def test_a_wallet_from_its_key_to_its_address(solana: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "id.json"
    # It needs no setting, not even valid ones.
    made = run_command({"PORT": "none"}, "wallet", "new", str(file))
    address = made.stdout.strip()
    assert (made.returncode, made.stderr) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = file.read_text()
    again = run_command({}, "wallet", "new", str(file))
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == f"error: {file}: File exists\n"
    assert file.read_text() == key
    assert run_command(solana, "wallet", "show").stdout.strip() == address
    assert json.loads(run_command(solana, "wallet", "show", "--json").stdout) == {"address": address}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("wallet", "balances"), 'Environment variable "SOLANA_SIGNER" invalid: the file '),
        (("wallet", "show"), 'Environment variable "SOLANA_SIGNER" invalid: the file '),
        (("pools", "check"), "SOLANA_RPC_URLS: 127.0.0.1: no answer: it cannot be connected to"),
        (("pools", "discover", "SOL", "USDC"), "SOLANA_RPC_URLS: 127.0.0.1: no answer: "),
    ],
)
def test_errors_are_one_line_without_a_secret(
    solana: dict[str, str], command: tuple[str, ...], reason: str
) -> None:
    made = run_command(solana, *command)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith(f"error: {reason}")
    assert len(made.stderr.splitlines()) == 1
    assert SECRET not in made.stderr


def test_the_paper_market_has_neither_wallet_nor_list() -> None:
    made = run_command({}, "wallet", "show")
    assert made.returncode == 1
    assert made.stderr == "error: VENUE=paper has neither a key nor a list of pools: set VENUE=solana\n"


def test_the_sandbox_s_wallet_and_pools(tmp_path: Path) -> None:
    sandbox = {"VENUE": "solana", "DATA_DIR": str(tmp_path)}
    held = json.loads(run_command(sandbox, "wallet", "balances", "--json").stdout)
    assert held["balances"][0] == {"token": "SOL", "amount": "10000", "account": held["address"]}
    found = run_command(sandbox, "pools", "discover", "USDC", "SOL", "--most", "3", "--write")
    assert found.returncode == 0
    assert len(found.stdout.splitlines()) == 5
    assert found.stdout.splitlines()[-1] == "1 smaller ones are left out; --most shows more"
    assert found.stderr == "nothing to add to the list\n"
