"""Real money: what it takes to start, limits, simulation, the halt, and no secret anywhere."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from aiohttp.web import Application
from solders.keypair import Keypair

from service.app import Service
from service.background import Background
from service.chains.solana.clusters import CLUSTERS, KnownCluster
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.venue import SolanaVenue
from service.clock import Clock
from service.domain.tokens import TOKENS
from service.sandbox.chain import Timing
from service.sandbox.server import Sandbox
from service.sandbox.standalone import make_sandbox
from service.settings import InvalidSettingError
from service.solana_settings import Cluster
from service.store.venue_identity import OtherVenueError
from tests.conftest import service_on
from tests.support.gem_market import rows
from tests.support.orders import Client, Json, execute, get, order_of, place, statuses, watch
from tests.support.paper import until
from tests.support.process import run_command
from tests.support.servers import TestServers
from tests.support.statements import Gate

Start = Callable[..., Awaitable[Client]]
MakeClient = Callable[[Application], Awaitable[Client]]

STRANGER = "5YBsviFL9nDLAeZJgFzYuaxyyYPRKAZwbEnsh4RmzkiG"
SECRET = "topsecretkeyofaprovider"
LIMITS = {"MAX_ORDER_AMOUNTS": "SOL=1,USDC=150", "MAX_DAY_AMOUNTS": "SOL=1.5,USDC=700"}
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
REACHED: Json = {"orderType": "limit", "limitPrice": "0.000001", "timeInForce": "GTC"}
FAULTS: list[tuple[str, Json]] = [
    # The first endpoint works at first.
    ("slow", {"delay_ms": 0}),
    ("garbage", {"form": "html"}),
    ("garbage", {"form": "truncated"}),
    ("garbage", {"form": "wrong_id"}),
    ("error", {"code": -32602, "message": "Invalid params"}),
    ("error", {"code": -32000, "message": "over quota"}),
    ("unavailable", {"status": 403}),
    ("rate_limit", {}),
    ("down", {}),
]
_SLOT_MS = 40


pytestmark = pytest.mark.usefixtures("forget_tokens")


@dataclass
class FastChain:
    """A sandbox with short slots."""

    sandbox: Sandbox
    url: str

    @property
    def wallet(self) -> Keypair:
        """The funded wallet."""
        return self.sandbox.chain.genesis.wallet

    @property
    def landed(self) -> int:
        """How many transactions are in its blocks."""
        blocks = self.sandbox.chain.blocks_after(0, self.sandbox.chain.tip.slot)
        return sum(len(block.landed) for block in blocks)

    def arm(self, endpoint: int, kind: str, **arguments: Any) -> None:
        """Arm a fault of an endpoint that stays."""
        list(self.sandbox.nodes.values())[endpoint].faults.arm(kind, times=None, **arguments)


@pytest.fixture
async def chain() -> AsyncIterator[FastChain]:
    clock = Clock()
    sandbox = make_sandbox(1, Timing(slot_ms=_SLOT_MS), len(FAULTS), clock)
    server = TestServer(sandbox.application())
    # Its own log would show the URLs.
    await server.start_server(access_log=None)
    slots = Background("sandbox slots", sandbox.make_slots, clock)
    slots.start()
    yield FastChain(sandbox, str(server.make_url("/")))
    await slots.stop()
    await server.close()


@pytest.fixture
def mainnet(chain: FastChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return settings that trade real money, on a sandbox that is taken for mainnet."""
    monkeypatch.setitem(CLUSTERS, Cluster.MAINNET, KnownCluster(None, MAINNET))
    key = tmp_path / "id.json"
    key.touch(mode=0o600)
    key.write_text(json.dumps(list(bytes(chain.wallet))))
    return {
        **_lists(chain, tmp_path),
        "VENUE": "solana",
        "SOLANA_CLUSTER": "mainnet-beta",
        "SOLANA_RPC_URLS": f"{chain.url}?api-key={SECRET}",
        "SOLANA_WS_URL": f"{chain.url.replace('http', 'ws')}?api-key={SECRET}",
        "SOLANA_SIGNER": f"file:{key}",
        "SOLANA_REAL_MONEY": str(chain.wallet.pubkey()),
        # As long as ten slots of 200 ms.
        "SOLANA_MAX_SNAPSHOT_SLOTS": str(2_000 // _SLOT_MS),
        **LIMITS,
    }


def _lists(chain: FastChain, folder: Path) -> dict[str, str]:
    """Write lists with the pools of SOL and USDC, and return the settings that name them."""
    names = {getattr(MAINNET, name): name for name in MAINNET.__slots__}
    genesis = chain.sandbox.chain.genesis
    pools, tokens = folder / "pools.toml", folder / "tokens.toml"
    pools.write_text(
        "\n".join(
            f'[[pool]]\nprogram = "{names[genesis.accounts[address].owner]}"\naddress = "{address}"'
            for name, address in genesis.pools.items()
            if name.split(":")[1] == "SOL-USDC"
        )
    )
    tokens.write_text(f'[[token]]\nsymbol = "USDC"\nmint = "{TOKENS["USDC"].mint}"\ndecimals = 6\n')
    return {"SOLANA_POOLS": str(pools), "SOLANA_TOKENS": str(tokens)}


async def refused(client: Client, **changes: object) -> Json:
    """Have an order refused, and return the problem."""
    async with client.post("/api/orders/execute", json=order_of(**changes)) as answer:
        body: Json = await answer.json()
        assert answer.status == 403, body
        return body


async def ended(client: Client, order: Json) -> Json:
    """Follow an order to its end, and return it."""
    await watch(client, order["id"])
    return await get(client, order["id"])


# --- Starting


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOLANA_REAL_MONEY", ""),
        ("SOLANA_REAL_MONEY", "yes"),
        ("SOLANA_REAL_MONEY", STRANGER),
        ("MAX_ORDER_AMOUNTS", ""),
        ("MAX_DAY_AMOUNTS", ""),
        ("MAX_DAY_AMOUNTS", "SOL=1"),
        ("SOLANA_SIGNER", ""),
        ("SOLANA_SIGNER", f"address:{STRANGER}"),
        ("SOLANA_RPC_URLS", ""),
    ],
)
async def test_real_money_does_not_start_without_each_of_these(
    mainnet: dict[str, str], servers: TestServers, name: str, value: str
) -> None:
    with pytest.raises(InvalidSettingError, match=f'"{name}"') as error:
        service_on(servers, **{**mainnet, name: value})
    assert "\n" not in str(error.value)
    assert mainnet["SOLANA_REAL_MONEY"] not in str(error.value)
    assert SECRET not in str(error.value)


async def test_the_command_says_so_in_one_line_after_the_mode(
    mainnet: dict[str, str], servers: TestServers
) -> None:
    del mainnet["SOLANA_REAL_MONEY"]
    done = await asyncio.to_thread(run_command, {**servers.environment, **mainnet}, "serve")
    mode, error = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert mode.endswith("mode: live")
    assert error.startswith('error: Environment variable "SOLANA_REAL_MONEY" invalid: not set')


# --- Limits


async def test_real_money_is_sold_within_the_limits(
    mainnet: dict[str, str], start: Start, servers: TestServers
) -> None:
    client = await start(**mainnet)
    async with client.get("/api/venue") as answer:
        venue = await answer.json()
    assert venue["mode"] == (await (await client.get("/health")).json())["mode"] == "live"
    assert venue["limits"]["maxOrderAmounts"] == {"SOL": "1", "USDC": "150"}
    assert venue["limits"]["maxDayAmounts"] == {"SOL": "1.5", "USDC": "700"}
    # What can never be sold.
    for changes, rule in (
        ({"tokenIn": "JUP", "amountIn": "1"}, "maxOrderAmounts"),
        ({"amountIn": "1.000000001"}, "maxOrderAmounts"),
        ({"amountOut": "1"}, "maxOrderAmounts"),
    ):
        assert (await refused(client, **changes))["rule"] == rule
    resting = await place(client, amountIn="0.9", **RESTING)
    first = await execute(client, amountIn="0.8")
    assert (first["status"], first["mode"]) == ("confirmed", "live")
    # What cannot be sold today.
    problem = await refused(client, amountIn="0.8")
    assert (problem["rule"], problem["limit"], problem["left"]) == ("maxDayAmounts", "1.5", "0.7")
    async with client.post("/api/orders/execute?dryRun=true", json=order_of(amountIn="0.8")) as answer:
        [told] = (await answer.json())["refusals"]
        assert (told["rule"], told["left"]) == ("maxDayAmounts", "0.7")
    # An order that rests fails when it is due, at once and for good.
    async with client.patch(f"/api/orders/{resting['id']}", json={"limitPrice": "0.000001"}) as answer:
        assert answer.status == 200
    over = await ended(client, resting)
    assert (over["status"], over["failureReason"]) == ("failed", "over_limit")
    assert (
        over["failureDetail"] == "This service sells at most 1.5 SOL in 24 hours, of which 0.7 SOL is left."
    )
    assert statuses(over).count("routing") == 1
    assert rows(servers, "SELECT count(*) FROM transactions") == [(1,)]
    sold = await place(client, amountIn="0.7")
    await until(lambda: rows(servers, "SELECT count(*) FROM transactions") == [(2,)])
    assert (await refused(client, amountIn="0.000000001"))["left"] == "0"
    assert (await ended(client, sold))["status"] == "confirmed"


# --- Simulation


async def test_an_order_is_simulated_and_nothing_is_sent(
    mainnet: dict[str, str], chain: FastChain, servers: TestServers, aiohttp_client: MakeClient
) -> None:
    simulated = {
        **{name: value for name, value in mainnet.items() if name not in {*LIMITS, "SOLANA_REAL_MONEY"}},
        "SOLANA_MODE": "simulate",
        "SOLANA_SIGNER": f"address:{chain.wallet.pubkey()}",
    }
    client = await aiohttp_client(service_on(servers, **simulated).web)
    quote = await (await client.get("/api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=3")).json()
    for changes in ({}, {**REACHED, "timeInForce": "IOC"}, REACHED):
        order = await execute(client, amountIn="3", **changes)
        [*_, last] = order["statusHistory"]
        assert (order["status"], order["mode"], last["reason"]) == ("failed", "simulate", "simulated")
        assert last["simulated"] == {
            "amountIn": "3",
            "amountOut": quote["route"]["amountOut"],
            "networkCost": "0.000005",
        }
        assert (order["networkCost"], order["txHash"], order["amountOut"]) == (None, None, None)
    for path in ("/health", "/api/venue", "/api/keys/me"):
        assert (await (await client.get(path)).json())["mode"] == "simulate"
    assert rows(servers, "SELECT count(*) FROM transactions") == [(0,)]
    assert chain.landed == 0
    # What rests there must not be executed for real.
    await place(client, amountIn="1", **RESTING)
    await client.close()
    rows(servers, "DELETE FROM instances")
    live = service_on(servers, **mainnet)
    with pytest.raises(OtherVenueError, match=r"solana-simulate.*1 of its orders are open"):
        await live.start()
    await live.stop()


# --- The halt


async def test_a_halt_stops_all_instances_on_a_chain(
    mainnet: dict[str, str],
    chain: FastChain,
    servers: TestServers,
    aiohttp_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    services: list[Service] = [service_on(servers, **mainnet) for _ in range(2)]
    clients = [await aiohttp_client(service.web) for service in services]
    # These are about to be submitted when trading is halted.
    gates = [Gate(service.storage.database, "append_transitions") for service in services]
    orders = [await place(client, amountIn="0.1") for client in clients]
    await until(lambda: rows(servers, "SELECT count(*) FROM orders WHERE status = 'routing'") == [(2,)])
    async with clients[0].post("/api/admin/halt", json={"reason": "a fire"}) as answer:
        assert answer.status == 200
    for gate in gates:
        gate.open()
    await until(lambda: all(f"{order['id']} is not submitted" in caplog.text for order in orders))
    async with clients[1].post("/api/orders/execute", json=order_of(amountIn="0.1")) as answer:
        assert answer.status == 503
    slot = chain.sandbox.chain.tip.slot
    await until(lambda: chain.sandbox.chain.tip.slot > slot + 10)
    assert rows(servers, "SELECT count(*) FROM transactions") == [(0,)]
    assert chain.landed == 0
    async with clients[1].post("/api/admin/resume") as answer:
        assert answer.status == 200
    for order in orders:
        assert (await ended(clients[1], order))["status"] == "confirmed"
    assert chain.landed == 2


# --- Secrets


async def test_no_key_and_no_token_of_a_url_is_written_anywhere(
    mainnet: dict[str, str],
    chain: FastChain,
    servers: TestServers,
    aiohttp_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    written: list[str] = []

    async def read(method: str, path: str, body: Json | None = None) -> None:
        async with client.request(method, path, json=body) as answer:
            written.append(f"{dict(answer.headers)} {await answer.text()}")

    urls = ",".join(f"{chain.url[:-1]}{path}?api-key={SECRET}" for path in chain.sandbox.nodes)
    for endpoint, (kind, arguments) in enumerate(FAULTS):
        chain.arm(endpoint, kind, **arguments)
    changes = {"SOLANA_RPC_URLS": urls, "LOG_LEVEL": "DEBUG", "RETRY_BASE_DELAY_MS": "0"}
    service = service_on(servers, **{**mainnet, **changes})
    client = await aiohttp_client(service.web)
    for again in ("", "ws_drop", "down"):
        if again:
            chain.arm(0, again)
        await read("POST", "/api/orders/execute", order_of(amountIn="0.01"))
        for path in ("/api/venue", "/api/balances", "/health", "/api/pools", "/openapi.json"):
            await read("GET", path)
        await read("GET", "/api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=1")
        await read("GET", "/api/orders")
    await until(lambda: caplog.text.count("attempt 4: quotes_unavailable") >= 1)
    venue = service.market.venue
    assert isinstance(venue, SolanaVenue)
    # None of the faults was avoided.
    assert all(each.calls for each in venue._endpoints.all)
    await client.close()
    written += [caplog.text, *capfd.readouterr(), repr(service.__dict__), repr(vars(service.market))]
    written += [str(row) for row in rows(servers, "SELECT row_to_json(o) FROM orders AS o")]
    assert "order " in caplog.text
    keys = bytes(chain.wallet)
    numbers = json.dumps(list(keys))
    # In base58, as numbers, in hexadecimal; the seed alone as well, which is the first half.
    secrets = [SECRET, str(chain.wallet), numbers[1:60], keys.hex()[:40], repr(keys[:32])[2:30]]
    for text in written:
        for secret in secrets:
            assert secret not in text
