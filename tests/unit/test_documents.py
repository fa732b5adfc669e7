"""Documents name what the code has, all of it and nothing else: settings, routes, codes, tables, files."""

import configparser
import functools
import importlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from marshmallow import Schema

from service.api.admin_schemas import HALT
from service.api.paper_requests import NEW_POOL
from service.api.requests import AMENDMENT, BATCH, CANCEL, CANCEL_AFTER, NEW_ORDER
from service.api.routes import ROUTES
from service.api.webhook_schemas import NEW_WEBHOOK
from service.domain.failures import FailureCode, Remedy, describe
from tests.support import openapi
from tests.support.settings import known_settings, load_settings

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
CHANGELOG = PROJECT / "CHANGELOG.md"
LLMS = PROJECT / "llms.txt"
DOCS = PROJECT / "docs"
MANUAL = [README, *sorted(DOCS.glob("*.md"))]
DOCUMENTS = sorted({*PROJECT.glob("*.md"), *MANUAL, *PROJECT.glob(".github/**/*.md")})
WORKFLOWS = sorted(PROJECT.glob(".github/workflows/*.yml"))

_LONGEST_README = 170
_AT_HOME = "http://localhost:3000"
_METHODS = "GET|POST|PUT|PATCH|DELETE"
_FENCED = re.compile(r"^( *)```.*?^\1```$", flags=re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
# Pages of the repository on GitHub, which are not files. The project contains no address of the repository.
_PAGE_ON_GITHUB = re.compile(r"\.\./\.\./(compare|releases|security)/\S+")


def _name(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def _rows(document: Path, first_cell: str) -> list[list[str]]:
    """Return the rows of a document's tables whose first cell matches, without the marks around code."""
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        for line in document.read_text().splitlines()
        if line[:1] == "|"
    ]
    return [row for row in rows if re.fullmatch(first_cell, row[0])]


def _section(document: Path, heading: str) -> str:
    """Return the text between a heading and the next one of the same level."""
    level = heading.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}$\n(.*?)(?=^{level} |\Z)", document.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, f"{document.name} has no heading {heading!r}"
    return found[1]


def _only_once(values: Iterable[str]) -> set[str]:
    counted = list(values)
    assert len(counted) == len(set(counted)), counted
    return set(counted)


# --- Settings


def _examples() -> dict[str, str]:
    text = (PROJECT / ".env.example").read_text()
    return dict(re.findall(r"^# ([A-Z_]+)=(.*)$", text, flags=re.MULTILINE))


def test_env_example_names_every_setting_and_explains_it() -> None:
    assert set(_examples()) == known_settings()
    lines = (PROJECT / ".env.example").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        assert not line or line.startswith("# "), f"{line!r} would change a setting"
        if re.match(r"# [A-Z_]+=", line):
            assert re.fullmatch(r"# \S.{8,}\.", above), f"what {line!r} means is not said in one line"


def test_env_example_gives_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("\n".join(f"{name}={value}" for name, value in _examples().items()))
    assert load_settings(file) == load_settings()


def test_the_manual_explains_every_setting_and_no_other() -> None:
    rows = _rows(DOCS / "configuration.md", "[A-Z]+(_[A-Z]+)*")
    assert _only_once(row[0] for row in rows) == known_settings()
    examples = _examples()
    for name, default, unit, meaning in rows:
        assert default == (examples[name] or "unset"), f"{name}: {default}"
        assert unit, name
        assert meaning, name


# --- The API


def _operations() -> set[str]:
    # The OpenAPI document lists exactly the existing routes: test_openapi compares it with the application.
    documented = {
        f"{method.upper()} {path}"
        for path, methods in openapi.document()["paths"].items()
        for method in methods
        if method.upper() in _METHODS.split("|")
    }
    return {*documented, "GET /openapi.json"}


def test_the_manual_explains_every_route_and_no_other() -> None:
    assert _only_once(row[0] for row in _rows(DOCS / "api.md", f"({_METHODS}) /.*")) == _operations()


@pytest.mark.parametrize("document", MANUAL, ids=_name)
def test_mentioned_routes_exist(document: Path) -> None:
    mentioned = {
        code for code in _INLINE_CODE.findall(document.read_text()) if re.match(rf"({_METHODS}) /", code)
    }
    assert mentioned <= _operations()


@pytest.mark.parametrize(
    ("heading", "component"), [("## Place an order", "NewOrder"), ("## The order", "Order")]
)
def test_the_manual_explains_every_member_and_no_other(heading: str, component: str) -> None:
    rows = re.findall(r"^\| (`.*?) \|", _section(DOCS / "api.md", heading), flags=re.MULTILINE)
    explained = _only_once(name for row in rows for name in _INLINE_CODE.findall(row))
    assert explained == set(openapi.document()["components"]["schemas"][component]["properties"])


def test_the_manual_names_every_member_of_a_history_entry_and_no_other() -> None:
    members = set(openapi.document()["components"]["schemas"]["HistoryEntry"]["properties"])
    [told] = re.findall(
        r"^An entry of `statusHistory` has ([^;]*);", (DOCS / "api.md").read_text(), re.MULTILINE
    )
    assert _only_once(_INLINE_CODE.findall(told)) == members


def test_the_manual_explains_every_reason_code_and_no_other() -> None:
    rows = _rows(DOCS / "orders.md", "[a-z]+(_[a-z]+)+|simulated")
    assert _only_once(row[0] for row in rows) == set(FailureCode)
    for code, retried, meaning in rows:
        assert retried == ("no" if describe(FailureCode(code))[0] is Remedy.NONE else "yes"), code
        assert meaning, code


def test_bodies_in_the_manual_are_valid() -> None:
    schemas: dict[str, Schema] = {
        "orders/execute": NEW_ORDER,
        "paper/pools": NEW_POOL,
        "orders/ORDER_ID": AMENDMENT,
        "webhooks": NEW_WEBHOOK,
        "orders/batch": BATCH,
        "orders/cancel": CANCEL,
        "orders/cancel-after": CANCEL_AFTER,
        "admin/halt": HALT,
    }
    sent = [
        found
        for document in MANUAL
        for found in re.findall(
            r"curl [^\n]*/api/([A-Za-z_/-]+)[^`]*?-d '(\{.+?\})'", document.read_text(), re.DOTALL
        )
    ]
    assert {path for path, _body in sent} == set(schemas)
    for path, body in sent:
        schemas[path].load(json.loads(body))


# --- The schema


def _tables() -> set[str]:
    """Return the tables of the migrations, and those that the service creates itself."""
    tables: set[str] = set()
    sources = [*sorted(PROJECT.glob("sql/migrations/*.sql")), *PROJECT.glob("service/**/*.py")]
    for source in sources:
        for what, name, new_name in re.findall(
            r"^(CREATE TABLE|DROP TABLE|ALTER TABLE)(?: IF (?:NOT )?EXISTS)? (\w+)(?: RENAME TO (\w+))?",
            source.read_text(),
            flags=re.MULTILINE,
        ):
            if what == "CREATE TABLE":
                tables.add(name)
            elif what == "DROP TABLE":
                tables.remove(name)
            elif new_name:
                tables.remove(name)
                tables.add(new_name)
    return tables


def test_the_schema_document_explains_every_table_and_no_other() -> None:
    text = (DOCS / "schema.md").read_text()
    assert _only_once(re.findall(r"^### `(\w+)`$", text, flags=re.MULTILINE)) == _tables()


def test_the_schema_document_draws_tables_that_exist() -> None:
    [drawing] = re.findall(r"```mermaid\nerDiagram\n(.*?)```", (DOCS / "schema.md").read_text(), re.DOTALL)
    drawn = set(re.findall(r"^ *(\w+) \S+ (\w+) :", drawing, re.MULTILINE))
    assert drawn
    assert {table for pair in drawn for table in pair} <= _tables()


def test_no_table_of_the_documents_is_split() -> None:
    for document in DOCUMENTS:
        # A blank line before a row without a header line under it: what follows is shown as text.
        for row, below in re.findall(r"\n\n(\|.*)\n(.*)", document.read_text()):
            assert re.fullmatch(r"\|( *-+ *\|)+", below), f"{_name(document)}: {row}"


# --- The code


def test_the_architecture_names_the_layers_of_the_import_contract() -> None:
    config = configparser.ConfigParser()
    config.read(PROJECT / "setup.cfg")
    layers = config["importlinter:contract:layers"]["layers"].split()
    text = _section(DOCS / "architecture.md", "## Which way imports go")
    [told] = re.findall(r"```text\n(.*?)\n```", text, flags=re.DOTALL)
    assert re.split(r"\s+>\s+", told) == [layer.removeprefix("service.") for layer in layers]


def test_the_architecture_explains_every_package_and_no_other() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]", _section(DOCS / "architecture.md", "## The parts"), flags=re.MULTILINE
    )
    packages = {path.parent.name for path in PROJECT.glob("service/*/__init__.py")}
    assert _only_once(rows) == packages


@pytest.mark.parametrize("document", MANUAL, ids=_name)
def test_names_of_the_code_are_in_the_files_that_are_named(document: Path) -> None:
    """``name`` in [file](link), or ``name`` and ``other`` in [file](link)."""
    text = " ".join(document.read_text().split())
    listed = r"((?:`\w+`(?:, | and | or |, and )?)+) in \[[^\]]+\]\(([^)#]+)\)"
    for names, target in re.findall(listed, text):
        file = document.parent / target
        for name in _INLINE_CODE.findall(names):
            assert re.search(rf"\b{name}\b", file.read_text()), f"{_name(document)}: {name} in {target}"


def test_the_architecture_names_the_only_file_that_knows_aiopg() -> None:
    pattern = re.compile(r"^(import|from) aiopg\b", re.MULTILINE)
    [driver] = [path for path in PROJECT.glob("service/**/*.py") if pattern.search(path.read_text())]
    text = _section(DOCS / "architecture.md", "## Leaving aiopg")
    assert f"](../{driver.relative_to(PROJECT)}) imports it." in text


def test_the_architecture_names_code() -> None:
    # Otherwise the test above would compare nothing.
    assert "`limit_out` in [" in (DOCS / "architecture.md").read_text()


@functools.cache
def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("document", [*DOCUMENTS, *WORKFLOWS], ids=_name)
def test_the_named_make_targets_exist(document: Path) -> None:
    text = document.read_text()
    code = "\n".join((*_fenced(text), *_INLINE_CODE.findall(text))) if document.suffix == ".md" else text
    pattern = r"(?:^|[ \n])make ([a-z-]+)" if document.suffix == ".md" else r"run: make ([a-z-]+)"
    assert set(re.findall(pattern, code)) <= _targets()


# --- The documents themselves


def _fenced(text: str) -> list[str]:
    return [match[0] for match in _FENCED.finditer(text)]


def _links(document: Path) -> Iterator[str]:
    text = _INLINE_CODE.sub("code", _FENCED.sub("", document.read_text()))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r"^\[[^\]]+\]: (\S+)$", text, flags=re.MULTILINE)


@functools.cache
def _anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCED.sub("", document.read_text()), flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        numbered = (slug if not number else f"{slug}-{number}" for number in itertools.count())
        anchors.add(next(each for each in numbered if each not in anchors))
    return anchors


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_point_to_existing_files_and_headings(document: Path) -> None:
    for link in _links(document):
        if link.startswith("https://") or (document.parent == PROJECT and _PAGE_ON_GITHUB.fullmatch(link)):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.resolve().is_relative_to(PROJECT), link
        assert target.exists(), link
        if anchor:
            assert target.suffix == ".md", link
            assert anchor in _anchors(target.resolve()), link


def test_the_readme_is_short_and_links_the_whole_manual() -> None:
    assert len(README.read_text().splitlines()) <= _LONGEST_README
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in _links(README)}
    assert {document.resolve() for document in MANUAL[1:]} <= linked


def test_the_map_for_language_models_has_the_form_of_the_convention() -> None:
    """See llmstxt.org: a title, a summary, text without headings, then sections of links."""
    head, *sections = re.split(r"^## .+\n", LLMS.read_text(), flags=re.MULTILINE)
    assert re.match(r"# \S.*\n\n(> .+\n)+\n", head)
    assert not re.search(r"^#", head.partition("\n")[2], flags=re.MULTILINE)
    assert sections
    for section in sections:
        assert all(re.fullmatch(r"- \[[^\]]+\]\([^)]+\): .+\.", line) for line in section.split("\n") if line)


def test_the_map_for_language_models_links_what_exists_and_the_whole_manual() -> None:
    links = _only_once(_links(LLMS))
    served = {link.removeprefix(_AT_HOME) for link in links if link.startswith(_AT_HOME)}
    assert served <= {route.path for route in ROUTES if route.method == "GET"}
    assert {"/openapi.json", "/asyncapi.json"} <= served
    files = {PROJECT / link for link in links if not link.startswith(_AT_HOME)}
    assert [file for file in files if not file.exists()] == []
    assert {README, *DOCS.glob("*.md")} <= files


def test_the_changelog_can_be_released() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    text = CHANGELOG.read_text()
    unreleased, *released = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert unreleased == "[Unreleased]"
    versions = []
    for heading in released:
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", heading)
        assert match, heading
        versions.append(match[1])
    assert versions[0] == project["version"]
    links = re.findall(r"^\[(.+)\]: ", text, flags=re.MULTILINE)
    assert links == ["Unreleased", *versions]
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE)) <= known


# --- The workflows


def _workflow(name: str) -> dict[str, Any]:
    # It has no types here.
    content: dict[str, Any] = importlib.import_module("yaml").safe_load(
        (PROJECT / ".github" / "workflows" / name).read_text()
    )
    return content


def test_the_versions_of_python_that_the_package_names_are_tested() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    named = {
        version[1]
        for classifier in project["classifiers"]
        if (version := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
    }
    tested = _workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert named <= set(tested)
    assert project["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=_name)
def test_workflows_have_permissions_and_time_outs(workflow: Path) -> None:
    content = _workflow(workflow.name)
    assert content["permissions"] == {"contents": "read"}
    assert content["concurrency"]["group"]
    for name, job in content["jobs"].items():
        assert "uses" in job or job["timeout-minutes"], name
        for step in job.get("steps", []):
            used = step.get("uses", "")
            assert not used or re.search(r"@(v\d+(\.\d+)*|[0-9a-f]{40})$", used), used
            if used.startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
