"""Fixtures for all tests: real servers, started once and only when a test needs them."""

import functools
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from service import settings
from service.app import Service
from service.domain.tokens import TOKENS
from service.parts import Servers
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.report import (
    pytest_runtest_logreport,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from tests.support.servers import TestCluster, TestServers

Client = TestClient[Request, Application]

_WITH_SERVERS = {"acceptance", "faults", "integration"}

# Hooks: pytest finds them here.
__all__ = ["pytest_runtest_logreport", "pytest_runtest_makereport", "pytest_terminal_summary"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of each kind evenly among the others, and those that need no servers last.

    The processes of a parallel run take the files in this sequence. So they do not run the heaviest, those
    with faults, all at once; and these end early, so that none is left when the other processes have ended.
    """
    files = dict.fromkeys(item.nodeid.partition("::")[0] for item in items)
    places: dict[str, tuple[bool, float, str]] = {}
    for folder in dict.fromkeys(Path(file).parts[1] for file in files):
        same = [file for file in files if Path(file).parts[1] == folder]
        share = 2 / 3 if folder == "faults" else 1
        for number, file in enumerate(same):
            places[file] = folder not in _WITH_SERVERS, share * (number + 0.5) / len(same), file
    items.sort(key=lambda item: places[item.nodeid.partition("::")[0]])


def _tokens_kept() -> Iterator[None]:
    known = dict(TOKENS)
    yield
    TOKENS.clear()
    TOKENS.update(known)


@pytest.fixture(autouse=True, scope="module")
def tokens_of_other_files() -> Iterator[None]:
    """Forget what a file's services have listed: all services of the process share the table."""
    yield from _tokens_kept()


@pytest.fixture
def forget_tokens() -> Iterator[None]:
    """Forget what a test has listed."""
    yield from _tokens_kept()


@pytest.fixture(scope="session")
def cluster() -> Iterator[TestCluster]:
    """Return the embedded PostgreSQL and Valkey."""
    cluster = TestCluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def servers(cluster: TestCluster) -> Iterator[TestServers]:
    """Return a database and a Redis prefix for this test only."""
    servers = cluster.new()
    yield servers
    cluster.drop(servers)


def service_on(servers: TestServers, **environment: str) -> Service:
    """Return a service on the given servers; without delays unless its settings set them."""
    logging.getLogger("taskiq").setLevel(logging.WARNING)
    wanted = {**NO_DELAYS, **servers.environment, **environment}
    with patch.dict(os.environ, wanted):
        loaded = settings.load(Path("/nowhere/.env"))
    return Service(loaded, Servers(servers.database_url, servers.redis_url, alone=False))


@pytest.fixture
def make_service(servers: TestServers) -> Callable[..., Service]:
    """Return a function that creates services on the test's servers."""
    return functools.partial(service_on, servers)


@pytest.fixture
def start(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
) -> Callable[..., Awaitable[Client]]:
    """Return a function that starts a service and returns a client for it."""

    async def start(**environment: str) -> Client:
        return await aiohttp_client(make_service(**environment).web)

    return start


@pytest.fixture
def spawn(servers: TestServers) -> Iterator[Callable[..., ServiceProcess]]:
    """Return a function that starts services in their own processes, which are killed at the end."""
    running: list[ServiceProcess] = []

    def spawn(**environment: str) -> ServiceProcess:
        process = ServiceFork({**servers.environment, **environment})
        running.append(process)
        return process.wait_until_ready()

    yield spawn
    for process in running:
        process.__exit__()
