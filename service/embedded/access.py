"""Who the servers run as, and how that user gets at folders it may not walk to.

PostgreSQL refuses to run as root, so root's PostgreSQL runs as `nobody`. But root's data folder is
by default in the home of root, which is closed to all others. Opening it (chmod) is not ours
to do, and keeping the data in another place would take it out of the folder or the volume that was
asked for. So the data stays in DATA_DIR, owned by `nobody`, and the server is handed the open
folder: it inherits a descriptor and is told that its data is in /proc/self/fd/N. The kernel goes
from there straight to the folder without walking down from /, so no permission of a parent folder
is asked; it needs no capability, so it works in a container too. Once there, PostgreSQL opens
everything relative to that folder.
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
    """The user that root hands a server to."""

    uid: int
    gid: int


def postgres_user(pgdata: Path) -> ServerUser | None:
    """Choose who PostgreSQL runs as.

    Args:
        pgdata: Its data folder, which need not exist yet.

    Returns:
        None for the user this process runs as; for root the owner of the data, or `nobody`.

    Raises:
        EmbeddedServerError: The data belongs to a user this process cannot become, or there is no
            user to become.
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
            f"PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as. "
            f"Start the service as another user. {OWN_SERVERS_HINT}"
        ) from None
    user = ServerUser(nobody.pw_uid, nobody.pw_gid)
    if owner is not None:
        _log.warning("%s belongs to root (a copy?): handing it to user %d", pgdata, user.uid)
        hand_over(pgdata, user)
    return user


def hand_over(folder: Path, user: ServerUser) -> None:
    """Give a folder of ours, with all that is in it, to a user. Symbolic links are not followed."""
    # From the bottom up: nobody else gets in before all of it is done.
    for parent, _, files, descriptor in os.fwalk(folder, topdown=False):
        for name in files:
            os.chown(name, user.uid, user.gid, dir_fd=descriptor, follow_symlinks=False)
        os.chown(parent, user.uid, user.gid, follow_symlinks=False)


def reachable(path: Path, user: ServerUser) -> bool:
    """Say whether a user may walk to a folder, or walk to a file and read it.

    The mode bits of all folders on the way decide. Access lists are not read, and may make the
    answer wrong in both directions: a false "no" costs nothing but a detour, and a false "yes" ends
    in the server's own message about the folder it could not enter.
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
    """Open a way for a user into a folder of its own.

    Args:
        folder: The folder.
        user: Who must get there; None is this process's own user, who needs no help.

    Yields:
        The name by which a child process reaches the folder, and the descriptors it must inherit
        for that.

    Raises:
        EmbeddedServerError: The user cannot get there and this system has no /proc/self/fd.
    """
    if user is None or reachable(folder.parent, user):
        yield str(folder), ()
        return
    if not Path("/proc/self/fd").is_dir():
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and user {user.uid}, whom it runs as instead, "
            f"cannot enter {folder.parent}. Start the service as another user, or set DATA_DIR to "
            f"a folder that all may enter."
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)
