"""The process's limit of open files, which includes sockets."""

import logging

log = logging.getLogger(__name__)

_OTHERS = 128
"""Reserved for PostgreSQL, Redis, the embedded servers' pipes, and files."""


def room_for(connections: int) -> int:
    """Raise the process's limit for this many connections, and return how many it allows."""
    try:
        import resource  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = connections if soft == resource.RLIM_INFINITY else min(connections, max(1, soft - _OTHERS))
    if room < connections:
        log.warning("MAX_CONNECTIONS is %d, but ulimit -n %d allows only %d", connections, soft, room)
    return room
