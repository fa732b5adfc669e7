"""The deployment files and examples work: container, compose file, the README's first order.

``tests/unit/test_documents.py`` tests that the documents match the code.
"""

import fnmatch
import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import migrate
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.servers import TestServers
from tests.support.settings import known_settings, load_settings

_NOT_SETTINGS = {"PATH", "PYTHONUNBUFFERED"}
_PINNED = re.compile(r"[a-z]+:[0-9]+(\.[0-9]+)*(-[a-z]+)*")


class Dockerfile:
    """A Dockerfile's instructions, stage by stage."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"\\\n\s*", "", text)
        self.stages: list[list[tuple[str, str]]] = []
        for line in filter(None, map(str.strip, text.splitlines())):
            name, _, rest = line.partition(" ")
            if name == "FROM":
                self.stages.append([])
            self.stages[-1].append((name, rest.strip()))

    @classmethod
    def read(cls) -> "Dockerfile":
        """Return the project's."""
        return cls((PROJECT / "Dockerfile").read_text())

    def all(self, name: str) -> list[str]:
        """Return the arguments of every instruction of a name."""
        return [rest for stage in self.stages for found, rest in stage if found == name]

    def one(self, name: str) -> str:
        """Return the arguments of the image's only instruction of a name."""
        [rest] = [rest for found, rest in self.stages[-1] if found == name]
        return rest

    @property
    def environment(self) -> dict[str, str]:
        """The image's environment."""
        return dict(pair.split("=", 1) for pair in shlex.split(self.one("ENV")))

    @property
    def command(self) -> list[str]:
        """The command of the image."""
        command: list[str] = json.loads(self.one("CMD"))
        return command

    @property
    def health_command(self) -> list[str]:
        """The health check of the image."""
        command: list[str] = json.loads(self.one("HEALTHCHECK").partition("CMD ")[2])
        return command

    @property
    def context(self) -> list[str]:
        """The files and folders of the project that the image is built from."""
        copies = [shlex.split(rest) for rest in self.all("COPY") if not rest.startswith("--from=")]
        return [source.rstrip("/") for *sources, _to in copies for source in sources]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return the names of all settings that the service reads."""
    return known_settings()


async def test_the_schema_document_names_every_column(servers: TestServers) -> None:
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    await database.close()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        )
        columns = set(cursor.fetchall())
    documented = set()
    table = ""
    for line in (PROJECT / "docs" / "schema.md").read_text().splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### `([a-z_]+)`", line)
            table = heading[1] if heading else ""
        elif table and (row := re.match(r"\| `([a-z_]+)` \|", line)):
            documented.add((table, row[1]))
    assert documented == columns


def test_the_first_order_of_the_readme_runs(spawn: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    readme = (PROJECT / "README.md").read_text()
    [(code, told)] = re.findall(r"```python\n(.+?)```\n\n```text\n(.+?)```", readme, flags=re.DOTALL)
    script = tmp_path / "first_order.py"
    script.write_text(code.replace("http://localhost:3000", spawn(**NO_DELAYS).url))
    said = subprocess.run(
        [sys.executable, script], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    # Venue and price depend on the market.
    assert [line.split()[:2] for line in said.splitlines()] == [
        line.split()[:2] for line in told.splitlines()
    ]
    assert said.splitlines()[-1] == told.splitlines()[-1]


def test_the_image_and_everything_it_installs_are_pinned() -> None:
    dockerfile = Dockerfile.read()
    bases = {rest.split()[0] for rest in dockerfile.all("FROM")}
    assert len(bases) == 1, "a virtual environment runs on the Python that made it"
    assert _PINNED.fullmatch(bases.pop())
    assert not dockerfile.all("ADD")
    for command in dockerfile.all("RUN"):
        for install in re.findall(r"pip [^&]*\binstall\b[^&]*", command):
            assert "--require-hashes" in install or "--no-deps --no-index" in install, install


def test_the_image_runs_as_a_plain_user_and_stops_on_its_stop_signal() -> None:
    dockerfile = Dockerfile.read()
    uid, gid = dockerfile.one("USER").split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert dockerfile.command == ["python", "-m", "service", "serve"]
    assert dockerfile.one("STOPSIGNAL") == "SIGTERM"
    assert "/health" in dockerfile.health_command[-1]
    # Some platforms do not build an image that has it.
    assert not dockerfile.all("VOLUME")


def test_the_image_sets_only_existing_settings(known: set[str]) -> None:
    dockerfile = Dockerfile.read()
    environment = {name: value for name, value in dockerfile.environment.items() if name not in _NOT_SETTINGS}
    assert set(environment) <= known
    loaded = load_settings(**environment)
    assert loaded.host == "0.0.0.0"  # noqa: S104 - a container's own network
    assert str(loaded.port) == dockerfile.one("EXPOSE")
    assert loaded.data_dir == Path("/data")
    assert loaded.database_url is None
    assert loaded.redis_url is None


def test_dockerignore_allows_exactly_what_the_image_is_built_from() -> None:
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    let_in = {line[1:].rstrip("/") for line in lines if line[0] == "!"}
    assert let_in == set(Dockerfile.read().context)
    for name in let_in:
        assert (PROJECT / name).exists(), name
        assert not any(fnmatch.fnmatch(name, pattern) for pattern in lines[1:]), name


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Return the compose file."""
    # A dependency of the OpenAPI validator, without types here.
    content: dict[str, Any] = importlib.import_module("yaml").safe_load(
        (PROJECT / "compose.yaml").read_text()
    )
    return content


def test_compose_sets_only_existing_settings(compose: dict[str, Any], known: set[str]) -> None:
    engine = compose["services"]["engine"]
    assert set(engine["environment"]) <= known
    loaded = load_settings(**engine["environment"])
    assert [port.rpartition(":")[2] for port in engine["ports"]] == [str(loaded.port)]
    assert int(engine["stop_grace_period"].rstrip("s")) > loaded.shutdown_grace_s
    database, redis = urlsplit(loaded.database_url), urlsplit(loaded.redis_url)
    postgres = compose["services"]["postgres"]["environment"]
    assert (database.username, database.password, database.path) == (
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_PASSWORD"],
        f"/{postgres['POSTGRES_DB']}",
    )
    assert {database.hostname, redis.hostname} == set(engine["depends_on"])


def test_compose_waits_for_servers_that_are_pinned_healthy_and_kept(compose: dict[str, Any]) -> None:
    engine = compose["services"]["engine"]
    assert (PROJECT / engine["build"] / "Dockerfile").exists()
    for name, how in engine["depends_on"].items():
        server = compose["services"][name]
        assert how == {"condition": "service_healthy"}
        assert _PINNED.fullmatch(server["image"])
        assert server["healthcheck"]["test"][0] == "CMD"
        assert {volume.partition(":")[0] for volume in server["volumes"]} <= set(compose["volumes"])
        assert "ports" not in server, "its password is in a public file"
