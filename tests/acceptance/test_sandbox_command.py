"""``python -m service sandbox`` in its own process, as other tools use it."""

import asyncio
import base64
import json
import signal
import stat
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from tests.support.judge import wait_until
from tests.support.process import ServiceProcess

PROCESSED = {"commitment": "processed"}


class Running:
    """The command, and the wallet's keys that it wrote."""

    def __init__(self, process: ServiceProcess, keypair: Path) -> None:
        self.process = process
        self.keypair = keypair

    def call(self, method: str, *params: Any, path: str = "/") -> Any:
        """Return a method's result."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = HTTPConnection("127.0.0.1", self.process.port, timeout=10)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())["result"]
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keypair = tmp_path_factory.mktemp("keys") / "id.json"
    command = ("sandbox", "--port", "0", "--slot-ms", "20", "--endpoints", "2", "--keypair", str(keypair))
    with ServiceProcess({}, command) as process:
        yield Running(process.wait_until_ready(), keypair)


def test_it_answers_and_its_slots_pass(running: Running) -> None:
    assert running.call("getHealth") == "ok"
    assert "doubles" in running.process.output
    first = running.call("getSlot", PROCESSED)
    wait_until(lambda: running.call("getSlot", PROCESSED, path="/2") > first + 5)


def test_the_wallet_can_be_used_with_its_key_file(running: Running) -> None:
    assert stat.S_IMODE(running.keypair.stat().st_mode) == 0o600
    wallet = Keypair.from_bytes(bytes(json.loads(running.keypair.read_text())))
    assert f"Funded wallet: {wallet.pubkey()}" in running.process.output
    someone = Pubkey.new_unique()
    pay = transfer(TransferParams(from_pubkey=wallet.pubkey(), to_pubkey=someone, lamports=10**9))
    blockhash = Hash.from_string(running.call("getLatestBlockhash", PROCESSED)["value"]["blockhash"])
    limits = TransactionConfig(compute_unit_limit=1_000, loaded_accounts_data_size_limit=1 << 20)
    message = MessageV1.try_compile(wallet.pubkey(), [pay], blockhash, limits)
    wire = base64.b64encode(bytes(VersionedTransaction(message, [wallet]))).decode()
    signature = running.call(
        "sendTransaction", wire, {"encoding": "base64", "preflightCommitment": "processed"}
    )
    wait_until(lambda: running.call("getSignatureStatuses", [signature])["value"][0] is not None)
    assert running.call("getBalance", str(someone), PROCESSED)["value"] == 10**9


def test_it_does_not_start_with_a_key_file_that_exists_a_taken_port_or_finality_before_confirmation(
    running: Running,
) -> None:
    taken = str(running.process.port)
    for arguments in (
        ("--keypair", str(running.keypair), "--port", "0"),
        ("--port", taken),
        ("--port", "0", "--finalized-after", "1"),
    ):
        with ServiceProcess({}, ("sandbox", *arguments)) as process:
            assert process.process.wait(30) == 1
            assert process.output.startswith("error: ")
            assert "Traceback" not in process.output


async def test_a_stop_signal_ends_it_although_a_socket_is_open() -> None:
    with ServiceProcess({}, ("sandbox", "--port", "0")) as process:
        process.wait_until_ready()
        async with ClientSession() as session, session.ws_connect(process.url) as socket:
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"})
            assert (await socket.receive_json())["result"] == 1
            process.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.process.wait, 15) == 0
