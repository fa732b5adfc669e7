"""The Dockerfile's steps without Docker: build the wheel, install it, run it like the image.

The files are those that the image is built from, and the environment, the command, the health check and
the stop signal are the image's own, read from the Dockerfile. Other than in the image, the dependencies are
the ones installed here, so that nothing is downloaded.
"""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import ClientSession

from tests.acceptance.test_deployment_files import Dockerfile
from tests.support.process import PROJECT

_DEPENDENCIES = str(Path(aiohttp.__file__).parents[1])
_PATIENCE_S = 30


@dataclass(frozen=True, slots=True)
class _Image:
    """An installation like the image's: its folder, its Python, and its user (None is the current one)."""

    folder: Path
    python: Path
    user: int | None
    group: int | None


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="oee-package-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    """Build the wheel from the files that the image copies, and no others."""
    source = folder / "source"
    source.mkdir()
    for name in Dockerfile.read().context:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=_PATIENCE_S)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def image(folder: Path, wheel: Path) -> _Image:
    """Install only the wheel, on a Python that a plain user can run."""
    user, group, base = _plain_user()
    environment = folder / "engine"
    subprocess.run([base, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=_PATIENCE_S)
    python = environment / "bin" / "python"
    [site_packages] = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(f"{_DEPENDENCIES}\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheel)], check=True, timeout=_PATIENCE_S)
    (folder / "empty").mkdir()
    data = folder / "data"
    data.mkdir(mode=0o700)
    if user is not None and group is not None:
        os.chown(data, user, group)
    return _Image(folder, python, user, group)


def _plain_user() -> tuple[int | None, int | None, str]:
    """Choose the service's user and Python: root switches to the user nobody, if possible.

    Other users may have no access to root's own Python; then use the system's, if it is the same version.
    """
    own = getattr(sys, "_base_executable", sys.executable)
    if os.geteuid() != 0:
        return None, None, own
    nobody = pwd.getpwnam("nobody")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    trial = f"import sys; sys.path.append({_DEPENDENCIES!r}); import aiohttp, orjson, psycopg2, solders"
    for base in filter(None, (own, shutil.which(version, path=os.defpath))):
        try:
            attempt = subprocess.run(
                [base, "-I", "-c", trial],
                cwd="/",
                user=nobody.pw_uid,
                group=nobody.pw_gid,
                extra_groups=[],
                capture_output=True,
                check=False,
                timeout=_PATIENCE_S,
            )
        except PermissionError:
            continue
        if attempt.returncode == 0:
            return nobody.pw_uid, nobody.pw_gid, base
    # Other users cannot access this installation. The rest is still tested, as root.
    return None, None, own


class _Container:
    """The running image: its environment and its command, on a free port, with the test's own data."""

    def __init__(self, image: _Image) -> None:
        dockerfile = Dockerfile.read()
        self._image = image
        self._health_command = dockerfile.health_command
        self._environment = {
            **dockerfile.environment,
            # The image listens on all addresses, and there is no API key yet.
            "ALLOW_ANONYMOUS": "1",
            "PATH": f"{image.python.parent}:{os.defpath}",
            "DATA_DIR": str(image.folder / "data"),
            "PORT": "0",
        }
        self._output = image.folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [str(image.python), *dockerfile.command[1:]],
                cwd=image.folder / "empty",
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=image.user,
                group=image.group,
                extra_groups=None if image.user is None else [],
            )
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._output.read_text()

    @property
    def user(self) -> int:
        """The user id of its process."""
        return Path(f"/proc/{self.process.pid}").stat().st_uid

    async def ready(self) -> Self:
        """Wait until it listens."""
        deadline = time.monotonic() + _PATIENCE_S
        while "Try:" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            await asyncio.sleep(0.02)
        [address] = [line for line in self.output.splitlines() if line.startswith("Listening on ")]
        self.url = address.removeprefix("Listening on ").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - said, not bound
        return self

    def healthy(self) -> bool:
        """Run the image's health check."""
        environment = {**self._environment, "PORT": self.url.rpartition(":")[2]}
        check = subprocess.run(
            [str(self._image.python), *self._health_command[1:]],
            env=environment,
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S,
        )
        return check.returncode == 0

    def stop(self) -> int:
        """Stop it as Docker does, and return its exit code."""
        self.process.send_signal(signal.Signals[Dockerfile.read().one("STOPSIGNAL")])
        return self.process.wait(_PATIENCE_S)


async def _get(client: ClientSession, url: str) -> dict[str, Any]:
    async with client.get(url) as answer:
        assert answer.status == 200
        order: dict[str, Any] = await answer.json()
        return order


def test_the_wheel_contains_exactly_the_service(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("service/**/*.py")}
    statements = {f"service/{path.relative_to(PROJECT)}" for path in PROJECT.glob("sql/**/*.sql")}
    assert "service/sql/migrations/0001_schema.sql" in statements
    page = {
        str(path.relative_to(PROJECT))
        for path in PROJECT.glob("service/api/docs_page/**/*")
        if path.is_file()
    }
    assert "service/api/docs_page/swagger-ui/LICENSE" in page
    examples = {str(path.relative_to(PROJECT)) for path in PROJECT.glob("service/api/examples/*.json")}
    assert "service/api/examples/executeOrder.json" in examples
    assert names == {*modules, *statements, *page, *examples, "service/py.typed"}


def test_the_wheel_installs_its_command(image: _Image) -> None:
    command = [str(image.python.with_name("order-engine")), "--help"]
    help_text = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_PATIENCE_S
    ).stdout
    assert "serve" in help_text


async def test_the_image_serves_as_a_plain_user_and_keeps_its_data(image: _Image) -> None:
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "100", "orderType": "market"}
    with _Container(image) as container:
        async with ClientSession() as client:
            await container.ready()
            if image.user is not None:
                assert container.user == image.user
            assert container.healthy()
            async with client.post(f"{container.url}/api/orders/execute", json=order) as answer:
                assert answer.status == 201
                order_id = (await answer.json())["orderId"]
            async with client.ws_connect(f"{container.url}/api/orders/{order_id}/ws") as socket:
                statuses = [message.json()["status"] async for message in socket]
            assert statuses == ["pending", "routing", "building", "submitted", "confirmed"]
            confirmed = await _get(client, f"{container.url}/api/orders/{order_id}")
        assert container.stop() == 0, container.output
        assert not container.healthy()
    with _Container(image) as container:
        async with ClientSession() as client:
            await container.ready()
            assert await _get(client, f"{container.url}/api/orders/{order_id}") == confirmed
        assert container.stop() == 0, container.output
