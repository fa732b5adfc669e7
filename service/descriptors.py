"""How many files, and so how many sockets, the process may have open."""

import logging

log = logging.getLogger(__name__)

_OTHERS = 128
"""For PostgreSQL, Redis, the embedded servers' pipes, files that are read."""


def room_for(connections: int) -> int:
    """Raise the process's limit for so many connections, and return for how many there is room."""
    try:
        import resource  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = connections if soft == resource.RLIM_INFINITY else min(connections, max(1, soft - _OTHERS))
    if room < connections:
        log.warning("MAX_CONNECTIONS is %d; ulimit -n %d has room for %d", connections, soft, room)
    return room
