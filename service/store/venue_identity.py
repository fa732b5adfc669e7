"""One database, one venue: its orders belong to the venue that they were placed on.

Otherwise a change of the settings would have a resting or submitted order continue on another chain, or with
another wallet. So a process that executes orders registers and agrees on the venue by one statement.
"""

from typing import NamedTuple

from service.chains.venue import VenueIdentity
from service.postgres.database import Database
from service.postgres.queries import query
from service.settings import InvalidSettingError


class OtherVenueError(InvalidSettingError):
    """The database is another venue's; the message says which, and why that cannot be changed now."""


class _RegisteredRow(NamedTuple):
    registered: bool
    kind: str
    market: str
    wallet: str
    open_orders: int
    instances: int


_REGISTER = query("register_instance", _RegisteredRow)

_GONE_AFTER_S = 60
"""How long after its last heartbeat a process may still run: longer than a start, which sends one only."""


async def register_on_venue(database: Database, instance_id: str, venue: VenueIdentity) -> None:
    """Register a process, and record its venue as that of the database.

    Another venue is replaced only if none of its orders is open and no other process runs. Processes that
    start at the same time agree on one.

    Args:
        database: The engine's database.
        instance_id: The process's current id.
        venue: The process's venue.

    Raises:
        OtherVenueError: It is not registered.
        UnavailableError: PostgreSQL is unavailable.
    """
    parameters = {
        "instance": instance_id,
        "kind": venue.kind,
        "market": venue.market,
        "wallet": venue.wallet,
        "gone_after_s": _GONE_AFTER_S,
    }
    while True:
        for row in await database.run(_REGISTER, parameters):
            if row.registered:
                return
            _refuse(venue, row)
        # Another process has changed the venue, or registered, at this moment: the next reading sees both.


def _refuse(venue: VenueIdentity, row: _RegisteredRow) -> None:
    known = VenueIdentity(row.kind, row.market, row.wallet)
    if known == venue:
        return
    if row.open_orders:
        reason = f"{row.open_orders} of its orders are open: let them end there, or cancel them"
    elif row.instances:
        reason = f"an instance runs on it, or was killed in the last {_GONE_AFTER_S} s"
    else:
        return
    raise OtherVenueError(
        f"this database belongs to the venue {known}, not to {venue}, and {reason}; or use another database"
    )
