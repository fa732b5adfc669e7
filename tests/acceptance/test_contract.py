"""The service does what its OpenAPI document says: schemathesis, all checks, with stateful links.

It runs against the service in its own process. A key with the scope `trade` calls what traders call, and one
with `admin` the rest, because a halt would have every order refused. The WebSockets have a fuzzer of their
own (tests/faults/test_socket_fuzz.py).
"""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.api.routes import ROUTES
from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from tests.support.keys import create_keys
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.servers import TestCluster

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = PROJECT / "tests" / "support" / "contract.toml"

QUICK = ("--max-examples=2", "--phases=examples,fuzzing,stateful", "--seed=1")
LONG = ("--max-examples=200", "--phases=examples,coverage,fuzzing,stateful", "--continue-on-failure")

OPERATIONS = {
    Scope.TRADE: [route for route in ROUTES if route.scope is not Scope.ADMIN and not route.websocket],
    Scope.ADMIN: [route for route in ROUTES if route.scope is Scope.ADMIN],
}


@dataclass(frozen=True, slots=True)
class Contract:
    """A service, a key of each scope, and a folder in which schemathesis keeps what it learns."""

    service: ServiceProcess
    tokens: dict[Scope, str]
    folder: Path

    def check(self, scope: Scope, *options: str) -> None:
        """Compare the operations of a scope with the document."""
        names = "|".join(route.operation_id for route in OPERATIONS[scope])
        command = [str(SCHEMATHESIS), "--config-file", str(CONFIG), "--no-color", "run", *options]
        command += [f"--include-operation-id-regex=^({names})$", "--generation-database=none"]
        command += [f"--header=Authorization: Bearer {self.tokens[scope]}"]
        told = subprocess.run(
            [*command, f"{self.service.url}/openapi.json"],
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        assert "Traceback" not in self.service.output, self.service.output

    def resume(self) -> None:
        """Resume trading, which an admin may have halted."""
        link = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        header = {"Authorization": f"Bearer {self.tokens[Scope.ADMIN]}"}
        link.request("POST", "/api/admin/resume", headers=header)
        assert link.getresponse().status == 200
        link.close()


@pytest.fixture(scope="module")
def contract(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    servers = cluster.new()
    tokens = create_keys(servers, *(NewKey("default", scope.value, scope) for scope in OPERATIONS))
    with ServiceProcess({**NO_DELAYS, **servers.environment, "SLOT_MS": "20"}) as service:
        folder = tmp_path_factory.mktemp("schemathesis")
        yield Contract(service.wait_until_ready(), dict(zip(OPERATIONS, tokens, strict=True)), folder)
        assert service.stop() == 0


@pytest.mark.parametrize("scope", OPERATIONS, ids=str)
def test_the_service_keeps_its_document(contract: Contract, scope: Scope) -> None:
    contract.check(scope, *QUICK)
    contract.resume()


@pytest.mark.long
@pytest.mark.parametrize("scope", OPERATIONS, ids=str)
def test_the_service_keeps_its_document_with_many_examples(contract: Contract, scope: Scope) -> None:
    contract.check(scope, *LONG)
    contract.resume()
