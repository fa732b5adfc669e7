"""The snippets of docs/api.md work, section by section: curl, Python and JavaScript."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from tests.support.keys import create_keys
from tests.support.orders import MARKET_ORDER
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.servers import TestCluster

_TEXT = (PROJECT / "docs" / "api.md").read_text().partition("\n## By example\n")[2]
_HEADINGS: list[str] = re.findall(r"^### (.+)$", _TEXT, flags=re.MULTILINE)
_SECTIONS = dict(zip(["", *_HEADINGS], re.split(r"^### .+$", _TEXT, flags=re.MULTILINE), strict=True))
_LANGUAGES = ("bash", "python", "js")
_PATIENCE_S = 60

# Beside the tools that a reader has; wscat would have to be downloaded.
_SHELL = 'set -euo pipefail; curl() { command curl --fail-with-body -sS "$@"; }; npx() { :; }\n'


def _blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _SECTIONS[section], flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Desk:
    """A service with keys."""

    service: ServiceProcess
    environment: dict[str, str]

    def run(self, command: list[str], text: str) -> str:
        """Run a program with a text as its input, for this service; return its output."""
        done = subprocess.run(
            command,
            input=text.replace("http://localhost:3000", self.service.url),
            env={**os.environ, **self.environment},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def place(self) -> str:
        """Place an order that rests, and return its id."""
        body = json.dumps({**MARKET_ORDER, "orderType": "limit", "limitPrice": "1000000"})
        placed = self.run(
            ["bash"],
            f"{_SHELL}curl http://localhost:3000/api/orders/execute -H 'Content-Type: application/json'"
            f" -H \"Authorization: Bearer $TOKEN\" -d '{body}'",
        )
        order_id: str = json.loads(placed)["id"]
        return order_id


@pytest.fixture(scope="module")
def desk(cluster: TestCluster) -> Iterator[_Desk]:
    servers = cluster.new()
    keys = [NewKey("default", scope.value, scope) for scope in (Scope.TRADE, Scope.ADMIN)]
    environment = dict(zip(("TOKEN", "ADMIN_TOKEN"), create_keys(servers, *keys), strict=True))
    with ServiceProcess({**NO_DELAYS, **servers.environment}) as service:
        yield _Desk(service.wait_until_ready(), environment)


def test_every_section_has_each_language() -> None:
    assert len(_HEADINGS) == len(set(_HEADINGS)) > 10
    for section in _HEADINGS:
        assert [len(_blocks(section, language)) for language in _LANGUAGES] == [1, 1, 1], section


@pytest.mark.parametrize("section", _HEADINGS)
def test_the_curl_snippets_work(desk: _Desk, section: str) -> None:
    [block] = _blocks(section, "bash")
    assert "curl " in block
    assert desk.run(["bash"], _SHELL + block.replace("ORDER_ID", desk.place())).startswith("{")


def test_the_python_snippets_work(desk: _Desk) -> None:
    told = desk.run(
        [sys.executable, "-"], "\n".join(each for s in _SECTIONS for each in _blocks(s, "python"))
    )
    assert "confirmed" in told


def test_the_javascript_snippets_work(desk: _Desk) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the JavaScript snippets were not run")
    text = "\n".join(each for section in _SECTIONS for each in _blocks(section, "js"))
    # Before Node.js 22 it has WebSocket only with this option.
    told = desk.run([node, "--experimental-websocket", "--input-type=module"], text)
    assert "confirmed" in told
