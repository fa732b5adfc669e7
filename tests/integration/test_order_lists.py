"""Lists of orders against an exhaustive search: every combination of filters, page by page."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from service.clock import Clock
from service.domain.lifecycle import Status
from service.domain.timestamps import format_timestamp
from service.postgres.database import Database
from service.store.endings import Filter
from service.store.orders import ListFilter, Orders, Position
from tests.support.gem_market import rows
from tests.support.process import PROJECT
from tests.support.servers import TestServers

ORDERS = 400
_FILL = (PROJECT / "tests" / "bench" / "fill_orders.sql").read_text()

# Several orders in each of sixty moments.
_TOGETHER = """
SET session_replication_role = replica;
UPDATE orders SET created_at = date_trunc('day', created_at);
UPDATE finished_orders AS f SET created_at = o.created_at FROM orders AS o WHERE o.id = f.order_id;
SET session_replication_role = origin;
"""
# Every third one has not ended, and as many were ended by an older version: neither has a kind.
_OLD = """
CREATE TEMPORARY TABLE chosen AS
    SELECT id, row_number() OVER (ORDER BY id) AS number FROM orders;
DELETE FROM finished_orders WHERE order_id IN (SELECT id FROM chosen WHERE number % 3 < 2);
DELETE FROM order_kinds;
UPDATE orders
SET
    status = 'building', amount_in = NULL, amount_out = NULL, tx_hash = NULL,
    status_history = jsonb_set(status_history, '{4,status}', '"building"')
WHERE id IN (SELECT id FROM chosen WHERE number % 3 = 0);
INSERT INTO open_orders (order_id, account, created_at, due_at, wake_at)
    SELECT id, account, created_at, now(), now() FROM orders WHERE status = 'building';
INSERT INTO finished_orders (order_id, account, created_at, status)
    SELECT id, account, created_at, status FROM orders
    WHERE id IN (SELECT id FROM chosen WHERE number % 3 = 1);
INSERT INTO order_kinds (id, account, order_type, token_in, token_out, status, venue)
    SELECT DISTINCT f.kind, o.account, o.order_type, o.token_in, o.token_out, o.status, o.venue
    FROM finished_orders AS f JOIN orders AS o ON o.id = f.order_id
    ON CONFLICT DO NOTHING;
"""


@dataclass(frozen=True, slots=True)
class ListedOrder:
    """What lists select by."""

    created_us: int
    id: str
    account: str
    order_type: str
    token_in: str
    token_out: str
    status: str
    venue: str | None
    label: str | None
    client_order_id: str | None

    def matches(self, wanted: ListFilter) -> bool:
        """Return whether the order belongs to a list."""
        given = wanted.orders
        pairs = (
            (given.account, self.account),
            (given.order_type, self.order_type),
            (given.token_in, self.token_in),
            (given.token_out, self.token_out),
            (given.label, self.label),
            (wanted.venue, self.venue),
        )
        return (
            all(one is None or one == own for one, own in pairs)
            and (not wanted.statuses or self.status in wanted.statuses)
            and (wanted.created_from is None or self.created_us >= _us(wanted.created_from))
            and (wanted.created_to is None or self.created_us < _us(wanted.created_to))
            and (self.client_order_id or "").startswith(wanted.client_order_id_prefix or "")
        )


def _us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


@pytest.fixture
def stored(servers: TestServers) -> list[ListedOrder]:
    """Return stored orders, newest first."""
    with servers.connect() as link:
        link.autocommit = True
        with link.cursor() as cursor:
            cursor.execute(_FILL, {"first": 1, "last": ORDERS, "orders": ORDERS})
            cursor.execute(_TOGETHER)
            cursor.execute(_OLD)
    found = rows(
        servers,
        "SELECT (extract(epoch FROM created_at) * 1000000)::bigint, id::text, account, order_type, token_in,"
        " token_out, status, venue, label, client_order_id FROM orders ORDER BY created_at DESC, id DESC",
    )
    return [ListedOrder(*row) for row in found]


@pytest.fixture
async def orders(servers: TestServers) -> AsyncIterator[Orders]:
    database = Database(servers.database_url, size=2, clock=Clock())
    yield Orders(database, Clock(), group_limit=100)
    await database.close()


async def _listed(orders: Orders, wanted: ListFilter, limit: int) -> list[Position]:
    """Read a list page by page."""
    positions: list[Position] = []
    while True:
        page = await orders.page(wanted, limit, positions[-1] if positions else None)
        assert len(page.positions) == limit or not page.more
        positions += page.positions
        if not page.more:
            return positions


async def test_every_combination_of_filters_lists_its_orders(
    stored: list[ListedOrder], orders: Orders
) -> None:
    assert len({row.created_us for row in stored}) < ORDERS / 4
    middle = format_timestamp(datetime.fromtimestamp(stored[ORDERS // 2].created_us / 1e6).astimezone())
    statuses: list[set[Status]] = [
        set(),
        {Status.CONFIRMED},
        {Status.BUILDING},
        {Status.FAILED, Status.BUILDING},
        {Status.EXPIRED},
    ]
    seen = set()
    for account, kind, token_in, venue, status, label in itertools.product(
        (None, "default", "nobody"),
        (None, "limit"),
        (None, "SOL"),
        (None, "meteora", "multiple"),
        statuses,
        (None, "grid 7"),
    ):
        wanted = ListFilter(Filter(account, kind, token_in, None, label), frozenset(status), venue=venue)
        expected = [Position(row.created_us, row.id) for row in stored if row.matches(wanted)]
        assert await _listed(orders, wanted, 9) == expected, wanted
        seen.add(len(expected))
    mine, some = Filter("default"), frozenset({Status.CONFIRMED, Status.BUILDING})
    for since, until in ((middle, None), (None, middle), (middle, middle)):
        for wanted in (
            ListFilter(mine, created_from=since, created_to=until),
            ListFilter(Filter("default", token_out="USDC"), created_from=since, created_to=until),
            ListFilter(mine, some, created_from=since, created_to=until),
            ListFilter(mine, client_order_id_prefix="bot-3", created_from=since, created_to=until),
        ):
            expected = [Position(row.created_us, row.id) for row in stored if row.matches(wanted)]
            assert await _listed(orders, wanted, 7) == expected, wanted
            seen.add(len(expected))
    assert len(seen) > 20


@pytest.mark.parametrize("few", [1, 20, 20_000])
async def test_a_prefix_of_few_and_of_many_ids_lists_its_orders(
    stored: list[ListedOrder], orders: Orders, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("service.store.orders._FEW", few)
    for prefix in ("b", "bot-3", "bot-3-1", "bot-9", "x"):
        for account in (None, "default"):
            for statuses in (frozenset[Status](), frozenset({Status.CONFIRMED, Status.BUILDING})):
                wanted = ListFilter(Filter(account), statuses, client_order_id_prefix=prefix)
                expected = [Position(row.created_us, row.id) for row in stored if row.matches(wanted)]
                assert await _listed(orders, wanted, 9) == expected, wanted


async def test_orders_of_an_older_version_have_their_kind(
    stored: list[ListedOrder], servers: TestServers
) -> None:
    wrong = rows(
        servers,
        "SELECT o.id FROM orders AS o LEFT JOIN open_orders AS p ON p.order_id = o.id"
        " LEFT JOIN finished_orders AS f ON f.order_id = o.id"
        " LEFT JOIN order_kinds AS k ON k.id = coalesce(p.kind, f.kind)"
        " WHERE (k.account, k.order_type, k.token_in, k.token_out, k.status, k.venue) IS DISTINCT FROM"
        " (o.account, o.order_type, o.token_in, o.token_out, f.status,"
        " CASE WHEN f.status IS NOT NULL THEN o.venue END)",
    )
    assert stored
    assert wrong == []
