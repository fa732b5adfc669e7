"""Checks the engine's results from the tables alone, with independent SQL and rules."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import service.audit
from service.chains.factory import venue_audit
from service.clock import Clock
from service.postgres.database import Database
from tests.support.process import run_command
from tests.support.servers import TestServers
from tests.support.settings import load_settings

_LEGAL = {
    "pending": {"routing"},
    "routing": {"building", "pending", "failed"},
    "building": {"submitted", "pending", "failed"},
    "submitted": {"confirmed", "pending", "failed"},
}
_ENDS = {"confirmed", "failed"}


@dataclass
class Verdict:
    """The findings. ``unfinished`` orders are lost only if they never end."""

    orders: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    unfinished: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    illegal: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether no promise was broken."""
        return not (self.unfinished or self.twice or self.illegal or self.untrue)


def judge(servers: TestServers, promised: Iterable[str] = ()) -> Verdict:
    """Compare every order with the venue's ledger; ``promised`` orders must exist."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT o.id::text, o.status, o.version, o.status_history, o.amount_in, o.amount_out, o.tx_hash,"
            " coalesce(jsonb_agg(jsonb_build_array(t.signature, t.amount_in::text, t.amount_out::text))"
            "   FILTER (WHERE t.status = 'landed'), '[]'),"
            " bool_or(t.status = 'pending'),"
            " (SELECT jsonb_agg(jsonb_build_array(s.id, s.settled_at IS NOT NULL, s.slot, s.error)"
            "   ORDER BY s.sequence) FROM transactions AS s WHERE s.order_id = o.id)"
            " FROM orders AS o LEFT JOIN paper_transactions AS t ON t.order_id = o.id GROUP BY o.id"
        )
        rows = cursor.fetchall()
        cursor.execute(
            "SELECT count(*) FROM paper_transactions AS t WHERE t.order_id IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.id = t.order_id)"
        )
        [(strangers,)] = cursor.fetchall()
    verdict = Verdict(orders=len(rows))
    if strangers:
        verdict.untrue.append(f"{strangers} transactions of no order")
    for row in rows:
        _judge_order(verdict, *row)
    lost = set(promised) - {row[0] for row in rows}
    verdict.untrue += [f"{order_id} was promised and is lost" for order_id in lost]
    return verdict


def _judge_order(  # noqa: PLR0917 - a row of the query
    verdict: Verdict,
    order_id: str,
    status: str,
    version: int,
    history: list[dict[str, Any]],
    amount_in: int | None,
    amount_out: int | None,
    tx_hash: str | None,
    landed: list[tuple[str, str, str]],
    may_land: bool | None,
    transactions: list[tuple[str, bool, int | None, str | None]] | None,
) -> None:
    verdict.statuses[status] += 1
    if status not in _ENDS:
        verdict.unfinished.append(f"{order_id} is {status}")
    if len(landed) > 1:
        verdict.twice.append(f"{order_id} landed {len(landed)} times")
    filled = tx_hash, str(amount_in), str(amount_out)
    if status == "confirmed" and [filled] != [tuple(fill) for fill in landed]:
        verdict.untrue.append(f"{order_id} is confirmed with {filled}, the ledger says {landed}")
    if status == "failed" and (landed or may_land):
        verdict.untrue.append(f"{order_id} is failed, and has landed or may")
    # What the engine has stored of its transactions is what the order says.
    stored = transactions or []
    if status in _ENDS and not all(settled for _id, settled, _slot, _error in stored):
        verdict.untrue.append(f"{order_id} is {status}, and a transaction has no outcome: {stored}")
    traded = [(hash_, slot) for hash_, settled, slot, error in stored if settled and error is None]
    if traded != ([(tx_hash, history[-1].get("landedSlot"))] if status == "confirmed" else []):
        verdict.untrue.append(f"{order_id} is {status} by {tx_hash}, and traded by {traded}")
    if not is_legal(status, version, history):
        verdict.illegal.append(f"{order_id}: {[entry['status'] for entry in history]}")


def is_legal(status: str, version: int, history: list[dict[str, Any]]) -> bool:
    """Whether a market order may have gone this way."""
    walk = [entry["status"] for entry in history]
    times = [entry["timestamp"] for entry in history]
    return (
        walk[0] == "pending"
        and walk[-1] == status
        and [entry["sequence"] for entry in history] == list(range(1, version + 1))
        and times == sorted(times)
        and all(after in _LEGAL.get(before, ()) for before, after in itertools.pairwise(walk))
    )


Judge = Callable[[TestServers, Iterable[str]], Verdict]
"""Returns what is wrong with the orders of a database; the given ones were promised."""


def wait_until(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Wait until a condition holds, or fail after a time-out."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.02)


def wait_for_the_end(
    servers: TestServers, promised: Iterable[str] = (), *, within_s: float, judged: Judge = judge
) -> tuple[Verdict, float]:
    """Wait until no order is unfinished; return the venue's verdict and how long that took."""
    began = time.monotonic()
    while True:
        took_s = time.monotonic() - began
        if not open_orders(servers) or took_s > within_s:
            return judged(servers, promised), took_s
        time.sleep(0.1)


def open_orders(servers: TestServers) -> set[str]:
    """Return the ids of the orders that have not ended, independent of how many have."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT order_id::text FROM open_orders")
        return {order_id for (order_id,) in cursor.fetchall()}


def versions_of_open_orders(servers: TestServers) -> dict[str, int]:
    """Return the version of each order that has not ended."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT o.id::text, o.version FROM open_orders JOIN orders AS o ON o.id = order_id")
        return dict(cursor.fetchall())


def wait_until_all_go_on(servers: TestServers, before: dict[str, int], *, within_s: float) -> float:
    """Wait until every order that was open before has made a step; return how long that took.

    This is the recovery time. Orders may end much later, since an attempt may fail and be retried.
    """
    began = time.monotonic()
    while stuck := before.items() & versions_of_open_orders(servers).items():
        took_s = time.monotonic() - began
        assert took_s < within_s, f"after {took_s:.1f} s: {_lives(servers, dict(stuck))}"
        time.sleep(0.05)
    return time.monotonic() - began


def wait_until_none_is_open(
    servers: TestServers, *, within_s: float, meanwhile: Callable[[], object] = lambda: None
) -> float:
    """Wait until every order has ended, before ``judge`` is called; return how long that took.

    ``meanwhile`` is called again and again until then.
    """
    began = time.monotonic()
    while left := open_orders(servers):
        meanwhile()
        took_s = time.monotonic() - began
        assert took_s < within_s, f"after {took_s:.0f} s: {_lives(servers, left)}"
        time.sleep(0.05)
    return time.monotonic() - began


def _lives(servers: TestServers, order_ids: Iterable[str], most: int = 5) -> str:
    """Return the histories of some orders, one line each."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT o.status_history, o.updated_at, now(), to_jsonb(p) FROM orders AS o"
            " LEFT JOIN open_orders AS p ON p.order_id = o.id WHERE o.id = ANY(%s::uuid[])",
            (sorted(order_ids)[:most],),
        )
        return "\n".join(map(str, cursor.fetchall()))


async def audit_now(servers: TestServers) -> list[str]:
    """Return the audit's findings."""
    database = Database(servers.database_url, size=1, clock=Clock())
    try:
        report = await service.audit.audit(database, venue_audit(load_settings()))
    finally:
        await database.close()
    return [finding.what for finding in report.findings]


def audit(servers: TestServers, settings: Mapping[str, str] | None = None, *options: str) -> dict[str, Any]:
    """Return the report of ``python -m service audit --json``, which must have no findings."""
    done = run_command({**servers.environment, **(settings or {})}, "audit", "--json", *options)
    assert done.returncode == 0, done
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["findings"] == []
    return report
