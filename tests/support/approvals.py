"""API keys whose orders must be approved, and keys that approve them."""

from dataclasses import dataclass

from service.clock import Clock
from service.domain.api_key import Scope
from service.domain.key_limits import NO_LIMITS, KeyLimits
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.api_keys import ApiKeys, NewKey
from tests.support.servers import TestServers

APPROVAL_POINTS = {"before approve": 6, "after approve": 6, "before refuse": 2, "after refuse": 2}
"""The crash points reached only by decisions about orders, and how often."""

MUST_BE_APPROVED = KeyLimits(requires_approval=True)
ACCOUNT = "desk"


@dataclass(frozen=True)
class Key:
    """An API key: its id, and the header that sends it."""

    id: str
    header: dict[str, str]


@dataclass(frozen=True)
class Team:
    """The keys of a desk.

    Attributes:
        bot: Trades; its orders must be approved.
        trader: Trades for the same account, without approval.
        boss: An admin of another account, who approves.
        bound_boss: The same, but its own orders must be approved.
    """

    bot: Key
    trader: Key
    boss: Key
    bound_boss: Key


async def create_team(servers: TestServers) -> Team:
    """Create the keys on a test's database."""
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    keys = ApiKeys(database, Clock())

    async def create(account: str, scope: Scope, limits: KeyLimits = NO_LIMITS) -> Key:
        key_id, token = await keys.create(NewKey(account, "key", scope, limits=limits))
        return Key(key_id, {"Authorization": f"Bearer {token}"})

    try:
        return Team(
            bot=await create(ACCOUNT, Scope.TRADE, MUST_BE_APPROVED),
            trader=await create(ACCOUNT, Scope.TRADE),
            boss=await create("operations", Scope.ADMIN),
            bound_boss=await create("operations", Scope.ADMIN, MUST_BE_APPROVED),
        )
    finally:
        await database.close()
