"""What a smoke test runs on: the local chain, the endpoints, and the instances that it starts and kills."""

import json
import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from aiohttp import ClientError, web

from service import settings
from service.app import Service
from service.chains.solana.clusters import CLUSTERS
from service.chains.solana.rpc.answers import Answer
from service.chains.solana.rpc.endpoint import Endpoint
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.errors import NoAnswerError, RpcError
from service.chains.solana.rpc.urls import RpcUrl, parse_rpc_urls
from service.chains.solana.statuses import SignatureStatus, read_statuses
from service.clock import Clock
from service.domain.transaction import SignedTransaction
from service.parts import Servers
from service.postgres.database import Database
from service.settings import InvalidSettingError, Settings
from service.smoke.client import OrderClient
from service.smoke.options import SmokeOptions
from service.smoke.pinned import PinnedQuoter
from service.smoke.processes import CommandProcess
from service.smoke.report import StepFailedError
from service.store.orders import Orders

log = logging.getLogger(__name__)

PATIENCE_S = 300.0
"""How long an order may take: some attempts of 151 blocks each, and until a block is final."""

_CLOSE_S = 1.0
_SECOND_TRY_S = 1.5
_COMMAND_S = 600.0
# Of a command that fails; all of it is in its file.
_MOST_LINES = 20


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of the service in a process of its own, and its client."""

    process: CommandProcess
    client: OrderClient


class Rig:
    """Starts what the steps need, and ends it.

    Attributes:
        settings: The service's; complete once it is open.
        endpoints: Those of the cluster; there from then on.
        first: What the wallet held first, in display units by token; None: that is not known.
        last: What it held last.

    Args:
        options: What is asked for.
        servers: PostgreSQL and Redis, for this test alone.
        folder: For what the processes write.
        clock: Measures time.
    """

    endpoints: Endpoints

    def __init__(
        self, options: SmokeOptions, loaded: Settings, servers: Servers, folder: Path, clock: Clock
    ) -> None:
        self.options = options
        self.settings = loaded
        self.clock = clock
        self.first: Mapping[str, Decimal] | None = None
        self.last: Mapping[str, Decimal] | None = None
        # Instances in other processes use them as well.
        self._servers = replace(servers, alone=False)
        self._folder = folder
        self._processes = 0
        self._urls: Sequence[RpcUrl] = ()
        self._open = AsyncExitStack()
        self._database = Database(servers.database_url, size=1, clock=clock)
        self.orders = Orders(self._database, clock, group_limit=1)
        self._environment: Mapping[str, str] = {}

    async def open(self) -> Sequence[str]:
        """Start the local chain if there is none, and open the endpoints; return what answers.

        Raises:
            StepFailedError: One does not answer, or belongs to another cluster.
        """
        os.environ.update(DATABASE_URL=self._servers.database_url, REDIS_URL=self._servers.redis_url)
        if self.settings.solana is not None and self.settings.solana.has_own_chain:
            # It must outlive the instances.
            self._environment = dict(os.environ)
            slot_ms = str(self.options.slot_ms)
            chain = self._spawn("sandbox", "--port", "0", "--endpoints", "2", "--slot-ms", slot_ms)
            self._open.push_async_callback(chain.stop)
            url = await chain.address()
            os.environ["SOLANA_RPC_URLS"] = f"{url},{url}/2"
        # Before a signer in this process removes its variable.
        self._environment = dict(os.environ)
        self.settings = settings.load()
        if self.settings.solana is None:
            raise InvalidSettingError("the smoke test is one of VENUE=solana")
        self._urls = parse_rpc_urls(self.settings.solana.rpc_urls or "")
        known = CLUSTERS[self.settings.solana.cluster].genesis_hash
        self.endpoints = Endpoints(self._urls, self.clock, known)
        await self.endpoints.start()
        self._open.push_async_callback(self.endpoints.stop)
        return [await self._describe(each) for each in self.endpoints.all]

    async def close(self) -> None:
        """End what is left."""
        await self.orders.stop()
        await self._database.close()
        await self._open.aclose()

    def redact(self, text: str) -> str:
        """Return a text without any part of an endpoint's URL that may be a key."""
        for url in self._urls:
            text = url.redact(text)
        return text

    # --- Instances

    @asynccontextmanager
    async def service(self) -> AsyncIterator[tuple[Service, OrderClient]]:
        """Run an instance in this process, whose routes can be pinned."""
        service = Service(self.settings, self._servers, self.clock, quoter=PinnedQuoter)
        runner = web.AppRunner(service.web, access_log=None, shutdown_timeout=_CLOSE_S)
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            async with OrderClient(f"http://127.0.0.1:{runner.addresses[0][1]}", self.clock) as client:
                await self._note_balances(client)
                yield service, client
                await self._note_balances(client)
            await service.drain()
        finally:
            await runner.cleanup()
            await service.stop()

    @asynccontextmanager
    async def instance(self, crash_at: str = "") -> AsyncIterator[Instance]:
        """Run an instance in a process of its own; it kills itself at a crash point, if one is named."""
        process = self._spawn("serve", CRASH_AT=crash_at)
        try:
            async with OrderClient(await process.address(), self.clock) as client:
                yield Instance(process, client)
                if process.code is None:
                    await self._note_balances(client)
        finally:
            await process.stop()

    async def run_command(self, *command: str) -> Sequence[str]:
        """Run a command of the service to its end, as a user does, and return the lines that it prints.

        Raises:
            StepFailedError: Its exit code says so.
        """
        process = self._spawn(*command, LOG_LEVEL="WARNING")
        try:
            code = await process.ended(_COMMAND_S)
        finally:
            await process.stop()
        lines = [line for line in process.output.splitlines() if line]
        if code != 0:
            told = "; ".join(lines[-_MOST_LINES:]) or "it wrote nothing"
            raise StepFailedError(f"it ended with {code}: {told}")
        return lines

    def _spawn(self, *command: str, **environment: str) -> CommandProcess:
        self._processes += 1
        output = self._folder / f"{self._processes}-{command[0]}.log"
        return CommandProcess(command, {**self._environment, **environment}, output, self.clock)

    async def _note_balances(self, client: OrderClient) -> None:
        try:
            self.last = await client.balances()
        except (StepFailedError, ClientError, TimeoutError) as error:
            log.warning("the balances cannot be read: %s", error)
            return
        if self.first is None:
            self.first = self.last

    # --- The chain

    async def transaction_of(self, order_id: str) -> SignedTransaction:
        """Return an order's last transaction, as it is stored.

        Raises:
            StepFailedError: It has none.
        """
        found = await self.orders.latest_transaction(order_id)
        if found is None:
            raise StepFailedError(f"order {order_id} has no transaction")
        return found

    async def ask(self, endpoint: Endpoint, method: str, *params: object) -> Answer:
        """Make a call at one endpoint.

        Raises:
            StepFailedError: It did not answer, or refused the call.
        """
        try:
            return await endpoint.call(method, params)
        except NoAnswerError as error:
            raise StepFailedError(f"{method}: {error}") from None
        except RpcError as error:
            raise StepFailedError(f"{method}: {endpoint.name}: {error}") from None

    async def status_at(self, endpoint: Endpoint, signature: str) -> tuple[SignatureStatus | None, int]:
        """Return what an endpoint knows of a signature in its whole history, and as of which slot.

        Raises:
            StepFailedError: It did not answer.
        """
        search = {"searchTransactionHistory": True}
        answer = await self.ask(endpoint, "getSignatureStatuses", [signature], search)
        [status] = read_statuses(answer.result, 1)
        return status, answer.slot or 0

    async def _describe(self, endpoint: Endpoint) -> str:
        if not endpoint.reads:
            return f"{endpoint.name}: only sent to, so not asked"
        try:
            version = await self.ask(endpoint, "getVersion")
        except StepFailedError:
            # It is left alone for a moment after failures. What the next one says is why.
            await self.clock.sleep(_SECOND_TRY_S)
            version = await self.ask(endpoint, "getVersion")
        genesis = await self.ask(endpoint, "getGenesisHash")
        if genesis.result != self.endpoints.genesis_hash:
            raise StepFailedError(f"{endpoint.name} belongs to another cluster, {genesis.result}")
        core = version.result.get("solana-core") if isinstance(version.result, dict) else None
        return f"{endpoint.name}: {core or json.dumps(version.result)}, genesis hash {genesis.result}"
