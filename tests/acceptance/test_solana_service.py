"""The service on a local Solana chain: as a user starts it, and on a chain that outlives it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientTimeout

from service.app import Service
from tests.support.orders import LIFE, Client, Json, get, order_of, place, statuses, watch
from tests.support.process import ServiceFork, ServiceProcess, run_command
from tests.support.servers import TestCluster, TestServers
from tests.support.times import after

pytestmark = pytest.mark.asyncio(loop_scope="module")

FEE = "0.000005"
BUYS: Json = {"tokenIn": "USDC", "tokenOut": "SOL", "amountIn": "100"}
RESTS: Json = {"orderType": "limit", "limitPrice": "1000000", "amountIn": "3"}
SNIPES: Json = {
    "orderType": "sniper",
    "sniperConditions": {"minLiquidity": {"amount": "1000000000000"}},
}
SLOT_MS = 100


@pytest.fixture(scope="module")
def own_servers(cluster: TestCluster) -> Iterator[TestServers]:
    servers = cluster.new()
    yield servers
    cluster.drop(servers)


@pytest.fixture(scope="module")
def process(own_servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Return a service with nothing but the venue set, apart from its servers."""
    folder = tmp_path_factory.mktemp("data")
    with ServiceFork({**own_servers.environment, "VENUE": "solana", "DATA_DIR": str(folder)}) as process:
        yield process.wait_until_ready()


@pytest_asyncio.fixture(loop_scope="module")
async def client(process: ServiceProcess) -> AsyncIterator[Client]:
    async with client_of(process) as client:
        yield cast("Client", client)


def client_of(process: ServiceProcess) -> ClientSession:
    return ClientSession(process.url, timeout=ClientTimeout(60))


async def read(client: Client, path: str, status: int = 200) -> Json:
    async with client.get(path) as answer:
        body: Json = await answer.json()
        assert answer.status == status, body
        return body


async def until_submitted(client: Client, order_id: str) -> None:
    async with client.ws_connect(f"/api/orders/{order_id}/ws") as socket:
        async for message in socket:
            if message.json().get("status") == "submitted":
                return
    pytest.fail("it ended without having been submitted")


async def call(chain: ServiceProcess, method: str, *params: Any) -> Any:
    """Return what a method of a node answers."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with ClientSession() as session, session.post(chain.url, json=body) as answer:
        return (await answer.json())["result"]


async def free(client: Client, token: str) -> str:
    page = await read(client, "/api/balances")
    [amount] = [each["free"] for each in page["balances"] if each["token"] == token]
    return str(amount)


async def test_orders_are_executed_on_the_chain(client: Client) -> None:
    """One test: each order takes the seconds until its block is final, so they are followed together."""
    before = await free(client, "SOL")
    resting = await place(client, **RESTS)
    quote = await read(client, "/api/quotes?tokenIn=USDC&tokenOut=SOL&amountIn=100")
    # A price that the pools have only after the market order.
    price = Decimal(quote["route"]["amountOut"]) / 100 * Decimal("1.003")
    limit = await place(client, **BUYS, orderType="limit", limitPrice=f"{price:.9f}")
    market = await place(client, amountIn="3000")
    messages, _ = await asyncio.gather(watch(client, market["id"]), watch(client, limit["id"]))
    order = await get(client, market["id"])
    assert statuses(order) == LIFE
    assert order["mode"] == "paper"
    kinds = [message["type"] for message in messages]
    seen = [message["execution"] for message in messages if message["type"] == "execution_seen"]
    assert kinds[-1] == "status_update"
    assert kinds.index("execution_seen") > kinds.index("status_update")
    assert [each["commitment"] for each in seen][-1] == "confirmed"
    assert (seen[-1]["amountIn"], seen[-1]["amountOut"]) == ("3000", order["amountOut"])
    end = order["statusHistory"][-1]
    assert end["networkCost"] == order["networkCost"] == FEE
    assert end["landedSlot"] == seen[-1]["slot"]
    fired = await get(client, limit["id"])
    assert statuses(fired) == ["pending", "open", *LIFE[1:]]
    async with client.delete(f"/api/orders/{resting['id']}") as answer:
        assert (await answer.json())["status"] == "cancelled"
    assert before == "9999.95"
    bought = Decimal(fired["amountOut"])
    assert Decimal(await free(client, "SOL")) == Decimal("9999.95") - 3000 + bought - 2 * Decimal(FEE)


async def test_the_market_and_the_wallet_are_those_of_the_chain(client: Client) -> None:
    venue = await read(client, "/api/venue")
    assert (venue["venue"], venue["mode"]) == ("solana", "paper")
    assert len(venue["wallet"]) > 40
    pools = (await read(client, "/api/pools?token=SOL"))["pools"]
    assert {pool["program"] for pool in pools} == {
        *("raydium_cpmm", "raydium_amm_v4", "meteora_dlmm", "meteora_damm_v2")
    }
    quote = await read(client, "/api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=5")
    assert {each["poolId"] for each in quote["quotes"]} <= {pool["id"] for pool in pools}
    async with client.post("/api/orders/execute", json=order_of(amountIn="20000")) as answer:
        problem = await answer.json()
        assert (answer.status, problem["type"]) == (422, "urn:problem-type:insufficient-balance")
    async with client.post("/api/paper/pools", json={}) as answer:
        assert answer.status == 404


async def test_its_orders_are_audited_without_the_chain(
    process: ServiceProcess, own_servers: TestServers
) -> None:
    assert process.output.splitlines()[0].endswith("mode: paper")
    done = run_command({**own_servers.environment, "VENUE": "solana"}, "audit")
    assert (done.returncode, done.stderr) == (0, "")
    *_, counts, told = done.stdout.splitlines()
    assert counts.endswith(": 0 violations")
    assert "landed" not in counts
    assert told == "only the orders were checked: audit --chain compares them with the chain, too"


async def test_a_transaction_in_flight_is_recovered_after_a_kill_and_lands_once(
    servers: TestServers, spawn: Callable[..., ServiceProcess]
) -> None:
    with ServiceFork({}, ("sandbox", "--port", "0", "--slot-ms", str(SLOT_MS))) as chain:
        chain.wait_until_ready()
        settings = {"VENUE": "solana", "SOLANA_RPC_URLS": chain.url}
        first = spawn(**settings)
        async with client_of(first) as session:
            client = cast("Client", session)
            placed = await place(client)
            wallet = (await read(client, "/api/venue"))["wallet"]
            await until_submitted(client, placed["id"])
            first.kill()
        async with client_of(spawn(**settings)) as session:
            client = cast("Client", session)
            await watch(client, placed["id"])
            order = await get(client, placed["id"])
        assert order["status"] == "confirmed"
        landed = await call(chain, "getSignaturesForAddress", wallet)
        assert [each["signature"] for each in landed] == [order["txHash"]]
        environment = {**servers.environment, **settings}
        done = run_command(environment, "audit", "--chain", "--strict")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "1 orders, 0 of them open, 1 landed transactions: 0 violations\n"
        done = run_command(environment, "audit", "--chain", "--json", "--since", "2020-01-01")
        report = json.loads(done.stdout)
        assert (done.returncode, report["landed"], report["in_flight"]) == (0, 1, 0)
        assert (report["findings"], report["warnings"]) == ([], [])
        assert len(report["notes"]) == 1
    done = run_command(environment, "audit")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--chain"], 1, "error: audit --chain needs VENUE=solana: "),
        (["--since", "2020-01-01"], 2, "--since needs --chain"),
        (["--chain", "--since", "yesterday"], 2, "'yesterday' is neither a date nor a time"),
    ],
)
async def test_options_of_the_audit_that_do_not_fit_are_refused(
    arguments: list[str], code: int, reason: str
) -> None:
    done = run_command({}, "audit", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert reason in done.stderr


async def test_its_own_chain_continues_after_a_kill_and_after_a_stop(tmp_path: Path) -> None:
    settings = {"VENUE": "solana", "DATA_DIR": str(tmp_path), "SHUTDOWN_GRACE_S": "1"}
    with ServiceProcess(settings) as first:
        async with client_of(first.wait_until_ready()) as session:
            client = cast("Client", session)
            resting = await place(client, **RESTS)
            sniper = await place(client, **SNIPES)
            missed = await place(client, **RESTS, expiresAt=after(1))
            placed = await place(client)
            await until_submitted(client, placed["id"])
            first.kill()
    with ServiceProcess(settings) as second:
        async with client_of(second.wait_until_ready()) as session:
            client = cast("Client", session)
            await watch(client, placed["id"])
            await watch(client, missed["id"])
            stopped = await place(client)
            await until_submitted(client, stopped["id"])
            assert await asyncio.to_thread(second.stop) == 0
    with ServiceProcess(settings) as third:
        async with client_of(third.wait_until_ready()) as session:
            client = cast("Client", session)
            await watch(client, stopped["id"])
            changed = {"limitPrice": "0.000001"}
            async with client.patch(f"/api/orders/{resting['id']}", json=changed) as answer:
                assert answer.status == 200, await answer.text()
            async with client.delete(f"/api/orders/{sniper['id']}") as answer:
                assert answer.status == 200, await answer.text()
            await watch(client, resting["id"])
            placed_orders = (resting, placed, stopped, sniper, missed)
            ends = [(await get(client, each["id"]))["status"] for each in placed_orders]
            assert ends == ["confirmed"] * 3 + ["cancelled", "expired"]
            running = await asyncio.to_thread(run_command, settings, "audit", "--chain", "--strict")
        third.kill()
    killed = await asyncio.to_thread(run_command, settings, "audit", "--chain", "--strict")
    for done in (running, killed):
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == "5 orders, 0 of them open, 3 landed transactions: 0 violations\n"


async def test_orders_on_a_chain_that_is_lost_keep_the_next_start_out(tmp_path: Path) -> None:
    settings = {"VENUE": "solana", "DATA_DIR": str(tmp_path)}
    with ServiceProcess(settings) as process:
        async with client_of(process.wait_until_ready()) as session:
            await place(cast("Client", session), **RESTS)
        process.kill()
    (tmp_path / "sandbox" / "chain.log").unlink()
    done = await asyncio.to_thread(run_command, settings, "serve")
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "1 of its orders are open" in error
    assert "to begin anew, delete the folder, or set another DATA_DIR" in error


async def test_a_service_that_was_never_started_leaves_no_socket_open(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(VENUE="solana")
    assert service._sandbox
    await service.stop()
    assert service._sandbox._socket.fileno() == -1
