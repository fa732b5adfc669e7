"""Chooses the folder for a server's Unix socket: private to the server's user, with a short path.

A socket's path is limited to about 100 bytes, and a data folder's path may be longer, or the server's user
may not be able to reach it. Then the socket goes into a separate folder for temporary files, whose name is
derived from the data folder's, so that the next start finds it again.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from service.embedded.access import ServerUser, reachable
from service.embedded.errors import EmbeddedServerError

PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # bytes: sizeof sun_path, less the terminating zero


def fits(socket_path: Path) -> bool:
    """Return whether a socket's path is usable: short, and without commas, at which libpq splits it."""
    return len(os.fsencode(socket_path)) <= PATH_LIMIT and "," not in str(socket_path)


def socket_folder(folder: Path, socket_name: str, user: ServerUser | None) -> Path:
    """Return the folder to put a socket in.

    Args:
        folder: The server's data folder, the first choice; it need not exist yet.
        socket_name: The socket's file name.
        user: The user that the server runs as; None for this process's.

    Raises:
        EmbeddedServerError: There is no folder for it.
    """
    if fits(folder / socket_name) and (user is None or reachable(folder.parent, user)):
        return folder
    name = f"order-engine-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    for base in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/run", "/var/tmp")):  # noqa: S108 - made private below
        place = Path(base, name)
        if not fits(place / socket_name) or not os.access(base, os.W_OK | os.X_OK):
            continue
        if user is not None and not reachable(Path(base), user):
            continue
        return _make_private(place, user)
    raise EmbeddedServerError(
        f"No folder was found for the socket of {folder}: its path is too long, or the server's user "
        f"cannot enter it, and /tmp is not writable. Set TMPDIR, or DATA_DIR to a shorter path."
    )


def _make_private(place: Path, user: ServerUser | None) -> Path:
    try:
        place.mkdir(mode=0o700)
    except FileExistsError:
        if not _claim(place, user):
            # Another user created it, by accident or to eavesdrop; use an unpredictable name instead.
            place = Path(tempfile.mkdtemp(prefix="order-engine-", dir=place.parent))
            _claim(place, user)
    else:
        _claim(place, user)
    return place


def _claim(place: Path, user: ServerUser | None) -> bool:
    """Return whether a folder is private to the server's user; one of this process's user changes owner."""
    owner = user.uid if user else os.geteuid()
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if status.st_mode & 0o077:
            return False
        if user is not None and status.st_uid == os.geteuid():
            os.fchown(descriptor, user.uid, user.gid)
            return True
        return status.st_uid == owner
    finally:
        os.close(descriptor)
