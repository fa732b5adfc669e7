"""The servers' user, and that user's access to folders whose parents it cannot enter.

PostgreSQL does not run as root, so under root it runs as the user `nobody`. But root's default data folder
is in root's home, which other users cannot enter. Changing its mode is not this service's business, and
moving the data would take it out of the configured folder or volume. So the data stays in DATA_DIR, owned by
`nobody`, and the server inherits an open descriptor of the folder and uses /proc/self/fd/N as its data
directory. The kernel resolves that without walking down from /, so the permissions of parent folders are not
checked. It needs no capability, so it works in a container too. PostgreSQL opens everything else relative to
that folder.
"""

import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.embedded.errors import OWN_SERVERS_HINT, EmbeddedServerError

if sys.platform != "win32":
    import pwd

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that a server runs as under root."""

    uid: int
    gid: int


def postgres_user(pgdata: Path) -> ServerUser | None:
    """Choose PostgreSQL's user.

    Args:
        pgdata: Its data folder, which need not exist yet.

    Returns:
        None for this process's own user; under root the owner of the data, or `nobody`.

    Raises:
        EmbeddedServerError: The data belongs to a user that this process cannot switch to, or the user
            `nobody` does not exist.
    """
    owner = pgdata.stat() if pgdata.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise EmbeddedServerError(
                f"{pgdata} belongs to user {owner.st_uid}, and this process runs as user "
                f"{os.geteuid()}. Start it as that user or as root, or choose another DATA_DIR."
            )
        return None
    if owner is not None and owner.st_uid != 0:
        return ServerUser(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root, and the user 'nobody' does not exist. "
            f"Start the service as another user. {OWN_SERVERS_HINT}"
        ) from None
    user = ServerUser(nobody.pw_uid, nobody.pw_gid)
    if owner is not None:
        _log.warning("%s belongs to root (a copy?): changing its owner to user %d", pgdata, user.uid)
        hand_over(pgdata, user)
    return user


def hand_over(folder: Path, user: ServerUser) -> None:
    """Change the owner of a folder and its contents. Symbolic links are not followed."""
    # Bottom up, so that the user has no access before all of it is done.
    for parent, _, files, descriptor in os.fwalk(folder, topdown=False):
        for name in files:
            os.chown(name, user.uid, user.gid, dir_fd=descriptor, follow_symlinks=False)
        os.chown(parent, user.uid, user.gid, follow_symlinks=False)


def reachable(path: Path, user: ServerUser) -> bool:
    """Return whether a user can enter a folder, or read a file.

    It checks the mode bits of all folders of the path, but no access control lists, so the result may be
    wrong: a false "no" costs a detour, and a false "yes" ends in the server's own error message.
    """
    for place in (path, *path.parents):
        status = place.stat()
        needed = stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else stat.S_IROTH
        if status.st_uid == user.uid:
            needed <<= 6
        elif status.st_gid == user.gid:
            needed <<= 3
        if not status.st_mode & needed:
            return False
    return True


@contextmanager
def passage(folder: Path, user: ServerUser | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Make a folder accessible to the user of a child process.

    Args:
        folder: The folder, owned by the user.
        user: The child process's user; None is this process's own, which has access anyway.

    Yields:
        The path by which a child process reaches the folder, and the descriptors that it must inherit.

    Raises:
        EmbeddedServerError: The user cannot reach it, and this system has no /proc/self/fd.
    """
    if user is None or reachable(folder.parent, user):
        yield str(folder), ()
        return
    if not Path("/proc/self/fd").is_dir():
        raise EmbeddedServerError(
            f"PostgreSQL does not run as root but as user {user.uid}, which cannot enter "
            f"{folder.parent}. Start the service as another user, or set DATA_DIR to a folder that "
            f"all users can enter."
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)
