"""An unusable HOST or PORT is reported in one line, the host before anything starts."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from service.cli.serve import _check_host, _listen
from service.settings import InvalidSettingError

PROJECT = Path(__file__).resolve().parents[2]


def test_an_invalid_host_is_reported_in_one_line(tmp_path: Path) -> None:
    environment = {
        "HOST": "x86_64-conda-linux-gnu",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        "DATA_DIR": str(tmp_path / "data"),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "service", "serve"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    [_mode, line] = (ended.stdout + ended.stderr).splitlines()
    assert line.startswith('error: Environment variable "HOST" invalid:')
    assert "x86_64-conda-linux-gnu" in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["a..b", "1.2.3.4.5", "x" * 300, "192.0.2.1"])
def test_a_host_of_another_machine_is_rejected(host: str) -> None:
    with pytest.raises(InvalidSettingError, match='"HOST" invalid') as refusal:
        _check_host(host)
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 - nothing listens
def test_a_host_of_this_machine_is_accepted(host: str) -> None:
    _check_host(host)


async def test_a_port_that_is_in_use_is_named() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettingError, match=f'"PORT" invalid: {port}: '):
            await _listen(web.TCPSite(runner, "127.0.0.1", port), port)
    await runner.cleanup()
