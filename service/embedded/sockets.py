"""Chooses the folder for a server's Unix socket: private to the server's user, and of a short name.

A socket's path has room for about 100 bytes, and a data folder may be deeper than that, or out of
reach for the user the server runs as. Then the socket goes into a folder of its own among the
temporary ones, whose name follows from the data folder's, so that the next start finds what this
one has left there.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from service.embedded.access import ServerUser, reachable
from service.embedded.errors import EmbeddedServerError

PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # bytes: sizeof sun_path, less the closing zero


def fits(socket_path: Path) -> bool:
    """Say whether a client can be told of a socket: a short path, and libpq splits it at commas."""
    return len(os.fsencode(socket_path)) <= PATH_LIMIT and "," not in str(socket_path)


def socket_folder(folder: Path, socket_name: str, user: ServerUser | None) -> Path:
    """Return the folder to put a socket in.

    Args:
        folder: The server's data folder, the first choice; it need not exist yet.
        socket_name: The socket's file name.
        user: Who the server runs as; None for the user of this process.

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
        f"No folder was found for the socket of {folder}: that one's path is too long or closed to "
        f"the server's user, and /tmp is not writable. Set TMPDIR, or DATA_DIR to a shorter path."
    )


def _make_private(place: Path, user: ServerUser | None) -> Path:
    try:
        place.mkdir(mode=0o700)
    except FileExistsError:
        if not _claim(place, user):
            # Someone else made it before us, by accident or to listen in. A name nobody can know,
            # then.
            place = Path(tempfile.mkdtemp(prefix="order-engine-", dir=place.parent))
            _claim(place, user)
    else:
        _claim(place, user)
    return place


def _claim(place: Path, user: ServerUser | None) -> bool:
    """Say whether a folder is private to the server's user; one of ours is given to that user."""
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
