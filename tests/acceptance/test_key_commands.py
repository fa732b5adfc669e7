"""``python -m service keys`` in its own process, and the start without any key."""

import json
import subprocess
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.process import ServiceProcess, run_command
from tests.support.servers import TestServers

Keys = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def keys(servers: TestServers, tmp_path: Path) -> Keys:
    """Return a function that runs the command on the test's database."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_command({**servers.environment, "DATA_DIR": str(tmp_path)}, "keys", *arguments)

    return run


def _created(keys: Keys, *arguments: str) -> dict[str, str]:
    made = keys("create", *arguments, "--json")
    assert made.returncode == 0, made.stderr
    created: dict[str, str] = json.loads(made.stdout)
    return created


def _status(url: str, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    status, _body = _get(url, "/api/keys/me", headers)
    return status


def _get(url: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, object]]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_key_from_its_creation_to_its_revocation(keys: Keys) -> None:
    created = _created(keys, "bot one", "--scope", "read", "--account", "desk", "--expires-in", "30d")
    assert created["token"].startswith(f"oek_{created['id']}_")
    listed = keys("list").stdout
    assert created["id"] in listed
    assert listed.splitlines()[1].split() == [created["id"], "read", "desk", "active", "bot", "one"]
    shown = json.loads(keys("show", created["id"], "--json").stdout)
    assert (shown["scope"], shown["account"], shown["state"]) == ("read", "desk", "active")
    rotated = json.loads(keys("rotate", created["id"], "--overlap", "1h", "--json").stdout)
    assert rotated["id"] == created["id"]
    assert rotated["token"] != created["token"]
    assert keys("revoke", created["id"]).returncode == 0
    assert json.loads(keys("list", "--json").stdout)[0]["state"] == "revoked"
    # The secret is shown by no command but the first and the rotation.
    secret = created["token"].rpartition("_")[2]
    for command in (("list",), ("list", "--json"), ("show", created["id"])):
        assert secret not in keys(*command).stdout


LIMITS = (
    "--tokens SOL,USDC,MOON --order-types market,limit --max-slippage-bps 100"
    " --max-price-impact-bps 0 --max-amount SOL=10.50,USDC=5000 --requests-per-second 50 --max-sockets 20"
    " --requires-approval"
    " --max-amount-per-day SOL=100.0 --max-usd-per-order 999.990 --max-usd-per-day 10000 --max-open-orders 50"
)


def test_a_key_s_limits(keys: Keys, servers: TestServers) -> None:
    limited = _created(keys, "bot", *LIMITS.split())["id"]
    shown = json.loads(keys("show", limited, "--json").stdout)["limits"]
    assert shown == {
        "tokens": ["MOON", "SOL", "USDC"],
        "orderTypes": ["market", "limit"],
        "maxSlippageBps": 100,
        "maxPriceImpactBps": 0,
        "maxAmount": {"SOL": "10.5", "USDC": "5000"},
        "requestsPerSecond": 50,
        "maxSockets": 20,
        "requiresApproval": True,
        "maxAmountPerDay": {"SOL": "100"},
        "maxUsdPerOrder": "999.99",
        "maxUsdPerDay": "10000",
        "maxOpenOrders": 50,
    }
    assert json.loads(keys("list", "--json").stdout)[0]["limits"] == shown
    # They are shown as they can be given again.
    [line] = [line for line in keys("show", limited).stdout.splitlines() if line.startswith("limits: ")]
    again = keys("set-limits", limited, *line.removeprefix("limits: ").split(), "--json")
    assert json.loads(again.stdout) == {"id": limited, "limits": shown}
    # All of them are replaced; a token may be named by its mint, and may be one that was listed later.
    mint = "So11111111111111111111111111111111111111112"
    gem = "Gem1111111111111111111111111111111111111111"
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("INSERT INTO paper_tokens (symbol, mint, decimals) VALUES ('GEM', %s, 3)", (gem,))
    amounts = ("--max-amount", f"{mint}=1,GEM=0.001", "--max-amount-per-day", f"{gem}=7")
    ended = keys("set-limits", limited, "--tokens", f"{mint},{gem}", *amounts)
    as_given = "--tokens GEM,SOL --max-amount GEM=0.001,SOL=1 --max-amount-per-day GEM=7"
    assert ended.stdout == f"limits of {limited}: {as_given}\n", ended.stderr
    too_fine = keys("set-limits", limited, "--max-amount", "GEM=0.0001")
    assert too_fine.stderr == "error: --max-amount: the amount of GEM has more than the token's 3 decimals\n"
    assert keys("set-limits", limited).stdout == f"limits of {limited}: none\n"
    assert set(json.loads(keys("show", limited, "--json").stdout)["limits"].values()) == {None, False}
    assert "limits: -" in keys("show", limited).stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("set-limits", "0" * 16), "error: there is no key 0000000000000000"),
        (("create", "x", "--tokens", "SOL,,USDC"), "must be names separated by commas"),
        (("create", "x", "--tokens", "sol"), "error: --tokens: there is no token sol; did you mean SOL?"),
        (("create", "x", "--tokens", "S-O-L"), "error: --tokens: there is no token S-O-L"),
        (("create", "x", "--order-types", "market,stop"), "must be some of market, limit, sniper"),
        (("create", "x", "--max-slippage-bps", "10001"), "must be a whole number from 0 to 10000"),
        (("create", "x", "--max-price-impact-bps", "1e2"), "must be a whole number from 0 to 10000"),
        (("create", "x", "--max-amount", "SOL"), "must be like SOL=10,USDC=5000, each token once"),
        (("create", "x", "--max-amount", "SOL=1,SOL=2"), "must be like SOL=10,USDC=5000, each token once"),
        (("create", "x", "--max-amount", "GEM=1"), "error: --max-amount: there is no token GEM"),
        (("create", "x", "--max-amount", "SOL=0"), "the amount of SOL must be greater than zero"),
        (("create", "x", "--max-amount", "SOL=1e3"), "the amount of SOL must be a plain decimal number"),
        (
            ("create", "x", "--max-amount-per-day", "GEM=1"),
            "error: --max-amount-per-day: there is no token GEM",
        ),
        (("create", "x", "--max-usd-per-order", "0"), "must be dollars such as 1000 or 0.50"),
        (("create", "x", "--max-usd-per-day", "1.0000001"), "with at most 6 decimals"),
        (("create", "x", "--max-usd-per-day", "$5"), "must be dollars"),
        (("create", "x", "--max-open-orders", "10001"), "must be a whole number from 0 to 10000"),
        (("create", "x", "--requests-per-second", "0"), "must be a whole number from 1 to 1000000"),
        (("create", "x", "--max-sockets", "-1"), "must be a whole number from 0 to 1000000"),
        (("create", "x", "--account", "No Name"), "must be 1 to 63 characters"),
        (("create", ""), "must be 1 to 64 printable characters"),
        (("create", "x", "--scope", "root"), "invalid"),
        (("create", "x", "--expires-in", "soon"), "must be a duration"),
        (("show", "0" * 16), "error: there is no key 0000000000000000"),
        (("rotate", "0" * 16), "error: there is no key 0000000000000000, or it has expired or was revoked"),
        (("revoke", "0" * 16), "error: there is no key 0000000000000000"),
        (("revoke", "x"), "must be a key's id"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(keys: Keys, arguments: tuple[str, ...], reason: str) -> None:
    ended = keys(*arguments)
    assert ended.returncode != 0
    assert reason in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_beside_a_running_service_with_embedded_servers(tmp_path: Path) -> None:
    environment = {"DATA_DIR": str(tmp_path / "data")}
    with ServiceProcess(environment) as service:
        service.wait_until_ready()
        assert _status(service.url) == 200
        token = json.loads(run_command(environment, "keys", "create", "bot", "--json").stdout)["token"]
        assert _status(service.url, token) == 200
        assert service.stop() == 0


def test_an_open_address_needs_a_key_or_a_setting(servers: TestServers, keys: Keys) -> None:
    environment = {**servers.environment, "HOST": "0.0.0.0"}  # noqa: S104 - the subject of the test
    with ServiceProcess(environment) as refused:
        assert refused.process.wait(60) == 1
        [_mode, line] = refused.output.splitlines()
        assert line.startswith("error: with HOST=0.0.0.0, other machines can reach the service")
        assert "keys create" in line
    with ServiceProcess({**environment, "ALLOW_ANONYMOUS": "1"}) as service:
        service.wait_until_ready()
        assert "with HOST=0.0.0.0, everyone may trade" in service.output
        _status_of_health, health = _get(f"http://127.0.0.1:{service.port}", "/health")
        assert health["anonymous"] is True
        token = _created(keys, "bot")["token"]
        assert _status(f"http://127.0.0.1:{service.port}", token) == 200
    with ServiceProcess(environment) as service:
        service.wait_until_ready()
        assert _status(f"http://127.0.0.1:{service.port}") == 401
        assert _status(f"http://127.0.0.1:{service.port}", token) == 200
        assert token.rpartition("_")[2] not in service.output
