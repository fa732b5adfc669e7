"""Loads settings from given variables only, and lists all settings."""

import os
from pathlib import Path
from unittest.mock import patch

from environs import Env

from service import settings
from service.settings import Settings

_NO_FILE = Path("/nowhere/.env")


def load_settings(file: Path = _NO_FILE, /, **variables: str) -> Settings:
    """Load the settings from a file, in an environment with only these variables."""
    with patch.dict(os.environ, variables, clear=True):
        return settings.load(file)


def known_settings() -> set[str]:
    """Return the names of all settings that the service reads."""
    used: list[Env] = []

    class Recorded(Env):
        def __init__(self) -> None:
            super().__init__()
            used.append(self)

    with patch.object(settings, "Env", Recorded):
        load_settings()
        load_settings(VENUE="solana")
    return {name for env in used for name in env.dump()}
