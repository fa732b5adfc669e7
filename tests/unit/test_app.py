"""By which setting other machines reach the service."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from service import settings
from service.app import _open_by


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HOST": "LOCALHOST"}, None),
        ({"HOST": "::1", "ALLOWED_HOSTS": "engine.localhost,localhost"}, None),
        ({"HOST": "0.0.0.0"}, "HOST=0.0.0.0"),  # noqa: S104 - nothing listens
        ({"HOST": "MyBox.lan"}, "HOST=MyBox.lan"),
        ({"TRUSTED_PROXIES": "127.0.0.1"}, "TRUSTED_PROXIES"),
        ({"ROOT_PATH": "/engine"}, "ROOT_PATH=/engine"),
        ({"ALLOWED_HOSTS": "localhost,api.example.com"}, "ALLOWED_HOSTS=api.example.com"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS=*"),
    ],
)
def test_other_machines_reach_it_by(environment: dict[str, str], expected: str | None) -> None:
    with patch.dict(os.environ, environment, clear=True):
        assert _open_by(settings.load(Path("/nowhere/.env"))) == expected
