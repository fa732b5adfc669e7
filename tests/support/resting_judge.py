"""Checks orders of every type from the tables alone, with rules independent of the engine's."""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import psycopg2.extras
from psycopg2.extensions import connection

from service.domain.chain_times import SLOT_MS
from tests.support.judge import audit_now
from tests.support.kills import ServingPeriod
from tests.support.orders import Json
from tests.support.process import ServiceFork
from tests.support.servers import TestServers

ENDS = {"confirmed", "failed", "cancelled", "expired"}

_MAY_FOLLOW = {
    "pending": {"open", "routing", "cancelled", "expired"},
    "open": {"open", "routing", "cancelled", "expired"},
    "routing": {"building", "pending", "open", "failed", "cancelled", "expired"},
    "building": {"submitted", "pending", "open", "failed", "cancelled", "expired"},
    "submitted": {"confirmed", "pending", "open", "failed", "cancelled", "expired"},
}

# Instances may log in with separate roles, so that PostgreSQL records which instance fired an order.
_WITNESS = """
DO $$ BEGIN
    CREATE ROLE left_one SUPERUSER LOGIN;
    CREATE ROLE right_one SUPERUSER LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
CREATE TABLE fire_witness (
    place bigserial, order_id uuid, version integer, role text DEFAULT session_user,
    fired_at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON fire_witness (order_id);
CREATE FUNCTION note_fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fire_witness (order_id, version)
    SELECT NEW.order_id, version FROM orders WHERE id = NEW.order_id;
    RETURN NULL;
END $$;
CREATE TRIGGER note_fire AFTER UPDATE ON open_orders FOR EACH ROW
    WHEN (OLD.fired IS NULL AND NEW.fired IS NOT NULL) EXECUTE FUNCTION note_fire();
"""

_ORDERS = """
SELECT
    o.id::text, o.order_type, o.time_in_force, o.status, o.version, o.attempts, o.status_history AS history,
    o.amount, o.token_in, o.token_out, o.limit_price, o.limit_out, o.sniper_conditions,
    extract(epoch FROM o.created_at) AS created_at, extract(epoch FROM o.expires_at) AS expires_at,
    o.amount_out,
    p.order_id IS NOT NULL AS among_open, p.cancel_requested, p.resting, p.fired,
    coalesce((SELECT jsonb_agg(sequence ORDER BY sequence) FROM transactions WHERE order_id = o.id), '[]')
        AS signed,
    coalesce((
        SELECT jsonb_agg(jsonb_build_array(
            t.status, t.amount_out::text, extract(epoch FROM t.settled_at), t.last_valid_slot
        ))
        FROM paper_transactions AS t WHERE t.order_id = o.id
    ), '[]') AS transactions,
    coalesce((
        SELECT jsonb_agg(jsonb_build_array(w.version, w.role) ORDER BY w.place)
        FROM fire_witness AS w WHERE w.order_id = o.id
    ), '[]') AS fires
FROM orders AS o
LEFT JOIN open_orders AS p ON p.order_id = o.id
"""

_IMMEDIATE_S = 1.5

_DECIMALS = {"SOL": 9, "USDC": 6, "USDT": 6, "JUP": 6, "RAY": 6, "BONK": 5}
_LISTED_DECIMALS = 6


@dataclass
class Books:
    """The findings; ``late_s`` is how late waiting orders expired while a process was running."""

    orders: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    by_id: dict[str, str] = field(default_factory=dict)
    fires: int = 0
    returns: int = 0
    late_s: float = 0.0
    wrong: list[str] = field(default_factory=list)


def migrate_and_witness(servers: TestServers) -> None:
    """Create the tables, and a trigger in PostgreSQL that records each firing."""
    with ServiceFork(servers.environment, ("migrate",)) as migration:
        assert migration.process.wait(30) == 0, migration.output
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(_WITNESS)


def deadlocks(servers: TestServers) -> int:
    """Return the number of deadlocks in the database."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        [(count,)] = cursor.fetchall()
    return int(count)


def judge_resting(
    servers: TestServers,
    lives: Sequence[ServingPeriod] = (),
    *,
    slot_ms: int = SLOT_MS,
    longest_delay_ms: int = 3_000,
    late_s: float | None = None,
) -> Books:
    """Check every order, and run the service's own audit.

    Args:
        servers: The database's servers.
        lives: When processes were serving, to calculate how late orders expired.
        slot_ms: The market's slot length.
        longest_delay_ms: The maximum time that a transaction takes to land.
        late_s: How late orders may expire.
    """
    books = Books()
    with servers.connect() as link:
        rows = _read(link)
    for row in rows:
        books.orders += 1
        books.statuses[row["status"]] += 1
        books.by_id[row["id"]] = row["status"]
        books.fires += len(row["fires"])
        for finding in itertools.chain(
            _judge(row, slot_ms), _judge_immediate(row, slot_ms, longest_delay_ms)
        ):
            books.wrong.append(f"{row['id']} ({row['order_type']} {row['time_in_force'] or ''}): {finding}")
        late = _late_s(row, lives)
        books.late_s = max(books.late_s, late)
        if late_s is not None and late > late_s:
            books.wrong.append(f"{row['id']} expired {late:.2f} s late")
        books.returns += sum("reason" in entry for entry in row["history"] if entry["status"] == "open")
    books.wrong += [f"audit: {what}" for what in asyncio.run(audit_now(servers))]
    return books


def _read(link: connection) -> list[dict[str, Any]]:
    with link.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute(_ORDERS)
        return [dict(row) for row in cursor.fetchall()]


def _judge(row: dict[str, Any], slot_ms: int) -> Iterable[str]:
    yield from _judge_history(row)
    yield from _judge_firing(row)
    yield from _judge_ledger(row, slot_ms)
    yield from _judge_terms(row)


def _judge_history(row: dict[str, Any]) -> Iterable[str]:
    history = row["history"]
    walk = [entry["status"] for entry in history]
    if walk[0] != "pending" or walk[-1] != row["status"]:
        yield f"is {row['status']}, and its history is {walk}"
    if [entry["sequence"] for entry in history] != list(range(1, row["version"] + 1)):
        yield "its history has a gap"
    for before, after in itertools.pairwise(history):
        if after["status"] not in _MAY_FOLLOW.get(before["status"], ()):
            yield f"{before['status']} was followed by {after['status']}"
        if _at(after) < _at(before):
            yield "its history goes back in time"
    ended = row["status"] in ENDS
    if ended == row["among_open"]:
        yield f"is {row['status']}, and {'still' if ended else 'not'} among the open orders"
    if walk.count("routing") != row["attempts"]:
        yield f"{row['attempts']} attempts, and {walk}"
    immediate = row["time_in_force"] in {"IOC", "FOK"}
    if immediate and (walk.count("routing") > 1 or "open" in walk or "pending" in walk[1:]):
        yield f"was for now or never: {walk}"
    rests = row["order_type"] == "sniper" or row["time_in_force"] in {"GTC", "GTD"}
    if rests != ("open" in walk):
        yield f"rests or does not: {walk}"


def _judge_firing(row: dict[str, Any]) -> Iterable[str]:
    """One firing per version, one attempt per firing, each with the observed market data."""
    fires = Counter(version for version, _role in row["fires"])
    if any(count > 1 for count in fires.values()):
        yield f"fired twice as it stood: {row['fires']}"
    for before, after in itertools.pairwise(row["history"]):
        if after["status"] == "routing":
            fired = before["status"] == "open"
            if fired != ("triggeredBy" in after):
                yield f"routing after {before['status']}: {after}"
            if fired and before["sequence"] not in fires:
                yield f"version {before['sequence']} went to routing, and was not fired"
        elif after["status"] == "open":
            yield from _judge_rest(row["order_type"], before["status"], after)
    yield from _judge_pauses(row["history"])


def _judge_rest(order_type: str, before: str, entry: Json) -> Iterable[str]:
    if "amended" in entry:
        if before != "open":
            yield f"amended in {before}"
    elif before != "pending" and (order_type != "limit" or "reason" not in entry):
        yield f"went back to rest: {entry}"


def _judge_pauses(history: Sequence[Json]) -> Iterable[str]:
    """Each pause after a return is twice the one before, until an amendment."""
    pause_s, rested_at = 0, None
    for entry in history:
        if "amended" in entry:
            pause_s, rested_at = 0, None
        elif entry["status"] == "open" and "reason" in entry:
            pause_s, rested_at = min(2 * pause_s or 1, 300), _at(entry)
        elif entry["status"] == "routing" and rested_at is not None:
            if _at(entry) - rested_at < timedelta(seconds=pause_s):
                yield f"fired {_at(entry) - rested_at} after its return, not {pause_s} s"
            rested_at = None


def _judge_ledger(row: dict[str, Any], slot_ms: int) -> Iterable[str]:
    submitted = [entry["sequence"] for entry in row["history"] if entry["status"] == "submitted"]
    if row["signed"] != submitted:
        yield f"transactions {row['signed']}, and submitted {submitted}"
    landed = [int(each[1]) for each in row["transactions"] if each[0] == "landed"]
    may_land = any(each[0] == "pending" for each in row["transactions"])
    if len(landed) > 1:
        yield f"landed {len(landed)} times"
    if row["status"] == "confirmed" and landed != [row["amount_out"]]:
        yield f"is confirmed with {row['amount_out']}, the ledger says {landed}"
    if row["status"] not in {"confirmed", "submitted"} and (landed or may_land):
        yield f"is {row['status']}, and has landed or may"
    if row["order_type"] == "limit":
        wanted = _limit_out(row, row["limit_price"])
        if row["limit_out"] != wanted:
            yield f"asks for {row['limit_out']}, its price for {wanted}"
        if any(amount_out < wanted for amount_out in landed):
            yield f"filled below its limit: {landed}, not {wanted}"
    # An order submitted before its expiry was amended may have had a different expiry.
    if row["expires_at"] is not None and not any("amended" in entry for entry in row["history"]):
        yield from _judge_landing(row, slot_ms)


def _judge_landing(row: dict[str, Any], slot_ms: int) -> Iterable[str]:
    for status, _amount_out, settled_at, last_valid_slot in row["transactions"]:
        if (last_valid_slot + 1) * slot_ms > row["expires_at"] * 1000:
            yield f"could land after its time, until slot {last_valid_slot}"
        if status == "landed" and settled_at > row["expires_at"]:
            yield "landed after its time"


def _judge_immediate(row: dict[str, Any], slot_ms: int, longest_delay_ms: int) -> Iterable[str]:
    """An IOC or FOK order is submitted in time, and can land only as long as transactions take to land."""
    if row["time_in_force"] not in {"IOC", "FOK"}:
        return
    over_at = float(row["created_at"]) + _IMMEDIATE_S
    for entry in row["history"]:
        late_s = _at(entry).timestamp() - over_at
        if entry["status"] in {"routing", "building", "submitted"} and late_s > 0:
            yield f"{entry['status']} {late_s:.3f} s after it had to be submitted"
    lands_by_ms = over_at * 1000 + longest_delay_ms + 2 * slot_ms
    for _status, _amount_out, _settled_at, last_valid_slot in row["transactions"]:
        if (last_valid_slot + 1) * slot_ms > lands_by_ms:
            yield f"could land until slot {last_valid_slot}"


def _judge_terms(row: dict[str, Any]) -> Iterable[str]:
    """Check each step against the terms in effect at that time."""
    history = row["history"]
    terms: Json = {
        "limitPrice": row["limit_price"],
        "expiresAt": None,
        "sniperConditions": row["sniper_conditions"],
    }
    if row["expires_at"] is not None:
        terms["expiresAt"] = float(row["expires_at"])
    for entry in reversed(history):
        for name, change in entry.get("amended", {}).items():
            terms[name] = change["from"]
            if name == "expiresAt" and change["from"] is not None:
                terms[name] = datetime.fromisoformat(change["from"]).timestamp()
        at = _at(entry).timestamp()
        # One that was accepted in its last moment may be stored in the next.
        over = terms["expiresAt"] is not None and at >= terms["expiresAt"] and entry["sequence"] > 2
        if over and entry["status"] in {"routing", "submitted", "open", "pending"}:
            yield f"{entry['status']} {at - terms['expiresAt']:.3f} s after its time"
        until = float("inf") if terms["expiresAt"] is None else terms["expiresAt"]
        if entry["status"] == "expired" and "reason" not in entry and at < until:
            yield f"expired before its time, {row['expires_at']}: {history}"
        if "triggeredBy" in entry:
            yield from _judge_trigger(row, terms, entry["triggeredBy"])


def _judge_trigger(row: dict[str, Any], terms: Json, seen: Json) -> Iterable[str]:
    # Rounded down by less than one unit of the last digit.
    price = Fraction(seen.get("price", "0")) * (1 + Fraction(1, 10**15))
    if row["order_type"] == "limit" and price < Fraction(terms["limitPrice"]):
        yield f"fired at {seen}, and its limit was {terms['limitPrice']}"
    bounds = (terms["sniperConditions"] or {}).get("price", {})
    if price <= Fraction(bounds.get("above", "-1")):
        yield f"fired at {seen}, and was to wait for {bounds}"


def _limit_out(row: dict[str, Any], price: str) -> int:
    sold = Fraction(int(row["amount"]), 10 ** _decimals(row["token_in"]))
    base_units: int = 10 ** _decimals(row["token_out"])
    return math.ceil(sold * Fraction(price) * base_units)


def _decimals(token: str) -> int:
    return _DECIMALS.get(token, _LISTED_DECIMALS)


def _late_s(row: dict[str, Any], lives: Sequence[ServingPeriod]) -> float:
    """Return how long a waiting order stayed open after its expiry while any process was running."""
    history = row["history"]
    if (
        row["status"] != "expired"
        or "reason" in history[-1]
        or history[-2]["status"] not in {"pending", "open"}
    ):
        return 0.0
    # It may have been amended, or have gone back to wait, after its expiry.
    since = max(float(row["expires_at"]), _at(history[-2]).timestamp())
    until = _at(history[-1]).timestamp()
    return max((min(life.ended_at, until) - max(life.ready_at, since) for life in lives), default=0.0)


def _at(entry: Json) -> datetime:
    return datetime.fromisoformat(entry["timestamp"])
