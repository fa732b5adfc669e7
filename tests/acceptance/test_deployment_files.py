"""The files that stand beside the code say what the code does: container, settings, documentation."""

import fnmatch
import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from environs import Env
from service import settings
from service.api import specs
from service.api.requests import AMENDMENT, NEW_ORDER, NEW_POOL
from service.clock import Clock
from service.domain.failures import FailureCode, Remedy, describe
from service.settings import Settings
from service.store.database import Database
from service.store.migrations import migrate

from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.servers import TestServers

_NOWHERE = Path("/nowhere/.env")
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
        """Return what an instruction is given, wherever it stands."""
        return [rest for stage in self.stages for found, rest in stage if found == name]

    def one(self, name: str) -> str:
        """Return what the image's one instruction of a name is given."""
        [rest] = [rest for found, rest in self.stages[-1] if found == name]
        return rest

    @property
    def environment(self) -> dict[str, str]:
        """The image's environment."""
        return dict(pair.split("=", 1) for pair in shlex.split(self.one("ENV")))

    @property
    def command(self) -> list[str]:
        """What the image runs."""
        command: list[str] = json.loads(self.one("CMD"))
        return command

    @property
    def health_command(self) -> list[str]:
        """What the image's health is judged by."""
        command: list[str] = json.loads(self.one("HEALTHCHECK").partition("CMD ")[2])
        return command

    @property
    def context(self) -> list[str]:
        """What the image is built from: files and folders of the project."""
        copies = [shlex.split(rest) for rest in self.all("COPY") if not rest.startswith("--from=")]
        return [source.rstrip("/") for *sources, _to in copies for source in sources]


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    with patch.dict(os.environ, variables, clear=True):
        yield


def _load(file: Path = _NOWHERE, /, **variables: str) -> Settings:
    with _environment(**variables):
        return settings.load(file)


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Return the names of all settings that the service reads."""
    used: list[Env] = []

    class Recorded(Env):
        def __init__(self) -> None:
            super().__init__()
            used.append(self)

    with patch.object(settings, "Env", Recorded):
        _load()
    [env] = used
    return set(env.dump())


def _examples() -> dict[str, str]:
    text = (PROJECT / ".env.example").read_text()
    return dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, flags=re.MULTILINE))


def _rows(document: str, first_cell: str) -> list[list[str]]:
    """Return the rows of a document's tables whose first cell matches, without the marks around code."""
    lines = (PROJECT / document).read_text().splitlines()
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        for line in lines
        if line[:1] == "|"
    ]
    return [row for row in rows if re.fullmatch(first_cell, row[0])]


def test_env_example_names_every_setting_and_explains_it(known: set[str]) -> None:
    assert set(_examples()) == known
    lines = (PROJECT / ".env.example").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        assert not line or line.startswith("# "), f"{line!r} would change a setting"
        if re.match(r"# [A-Z_]+=", line):
            assert re.fullmatch(r"# \S.{8,}\.", above), f"what {line!r} means is not said in one line"


def test_env_example_gives_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("\n".join(f"{name}={value}" for name, value in _examples().items()))
    assert _load(file) == _load()


def test_the_readme_explains_every_setting(known: set[str]) -> None:
    rows = _rows("README.md", "[A-Z]+(_[A-Z]+)*")
    assert {row[0] for row in rows} == known
    examples = _examples()
    for name, default, unit, meaning in rows:
        assert default == (examples[name] or "unset"), f"{name}: {default}"
        assert unit, name
        assert meaning, name


def test_the_readme_explains_every_failure() -> None:
    rows = {code: retried for code, retried, _meaning in _rows("README.md", "[a-z]+(_[a-z]+)+")}
    assert rows == {code: "no" if describe(code)[0] is Remedy.NONE else "yes" for code in FailureCode}


def test_the_readme_names_every_route() -> None:
    operations = {
        f"{method.upper()} {path}"
        for path, methods in specs.document()["paths"].items()
        for method in methods
        if method in {"get", "post", "put", "patch", "delete"}
    }
    assert {row[0] for row in _rows("README.md", "(GET|POST|PUT|PATCH|DELETE) /.*")} == {
        *operations,
        "GET /openapi.json",
    }


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


def test_the_readme_s_first_order_runs_as_it_is_told(
    spawn: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    readme = (PROJECT / "README.md").read_text()
    [(code, told)] = re.findall(r"```python\n(.+?)```\n\n```text\n(.+?)```", readme, flags=re.DOTALL)
    script = tmp_path / "first_order.py"
    script.write_text(code.replace("http://localhost:3000", spawn(**NO_DELAYS).url))
    said = subprocess.run(
        [sys.executable, script], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    # Venue and price are the market's.
    assert [line.split()[:2] for line in said.splitlines()] == [
        line.split()[:2] for line in told.splitlines()
    ]
    assert said.splitlines()[-1] == told.splitlines()[-1]


def test_the_readme_s_bodies_are_valid() -> None:
    schemas = {"orders/execute": NEW_ORDER, "paper/pools": NEW_POOL, "orders/ORDER_ID": AMENDMENT}
    readme = (PROJECT / "README.md").read_text()
    sent = re.findall(r"curl [^\n]*/api/([A-Za-z_/]+)[^`]*?-d '(\{.+?\})'", readme, re.DOTALL)
    assert {path for path, _body in sent} == set(schemas)
    for path, body in sent:
        schemas[path].load(json.loads(body))


def test_links_within_the_documents_lead_somewhere() -> None:
    for document in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_image_is_pinned_and_installs_only_what_is_pinned() -> None:
    dockerfile = Dockerfile.read()
    bases = {rest.split()[0] for rest in dockerfile.all("FROM")}
    assert len(bases) == 1, "a virtual environment runs on the Python that made it"
    assert _PINNED.fullmatch(bases.pop())
    assert not dockerfile.all("ADD")
    for command in dockerfile.all("RUN"):
        for install in re.findall(r"pip [^&]*\binstall\b[^&]*", command):
            assert "--require-hashes" in install or "--no-deps --no-index" in install, install


def test_the_image_runs_as_a_plain_user_and_stops_when_asked() -> None:
    dockerfile = Dockerfile.read()
    uid, gid = dockerfile.one("USER").split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert dockerfile.command == ["python", "-m", "service", "serve"]
    assert dockerfile.one("STOPSIGNAL") == "SIGTERM"
    assert "/health" in dockerfile.health_command[-1]
    # Some platforms refuse to build an image that has it.
    assert not dockerfile.all("VOLUME")


def test_the_image_sets_settings_that_exist(known: set[str]) -> None:
    dockerfile = Dockerfile.read()
    environment = {name: value for name, value in dockerfile.environment.items() if name not in _NOT_SETTINGS}
    assert set(environment) <= known
    loaded = _load(**environment)
    assert loaded.host == "0.0.0.0"  # noqa: S104 - a container's own network
    assert str(loaded.port) == dockerfile.one("EXPOSE")
    assert loaded.data_dir == Path("/data")
    assert loaded.database_url is None
    assert loaded.redis_url is None


def test_dockerignore_lets_in_what_the_image_is_built_from_and_nothing_else() -> None:
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
    # A dependency of the OpenAPI validator's, so that it has no types here.
    content: dict[str, Any] = importlib.import_module("yaml").safe_load(
        (PROJECT / "compose.yaml").read_text()
    )
    return content


def test_compose_sets_settings_that_exist(compose: dict[str, Any], known: set[str]) -> None:
    engine = compose["services"]["engine"]
    assert set(engine["environment"]) <= known
    loaded = _load(**engine["environment"])
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
