-- The processes that execute orders, and the takeover of a dead process's orders.

-- name: heartbeat
-- Record that a process is alive. Returns PostgreSQL's time, and why trading is halted, if it is; nothing if the
-- process has been declared dead.
UPDATE instances
SET seen_at = now()
WHERE id = %(id)s
RETURNING extract(epoch FROM now())::float8 AS now, (SELECT reason FROM trading_halt) AS halted;

-- name: remove_dead_instances
-- Remove processes whose last heartbeat is too old, or, since the clock has jumped back, too far in the future: a
-- living one sends the next within a second.
DELETE FROM instances
WHERE id <> %(own)s
    AND (
        seen_at <= now() - %(dead_after_ms)s * interval '1 millisecond'
        OR seen_at > now() + %(dead_after_ms)s * interval '1 millisecond'
    )
RETURNING id::text;

-- name: find_oldest_due_time
-- Return a time before which no order is due, given an earlier one. While another transaction holds back what may be
-- vacuumed, the index on due_at keeps an entry of each order that has ended: a scan that starts here skips them.
SELECT least(min(due_at), now() - interval '1 minute')::text FROM open_orders WHERE due_at >= %(due_since)s;

-- name: release_orphans
-- Release the orders of processes that no longer exist. Orders in execution are always due, so the index on
-- due_at finds them among any number of resting ones.
UPDATE open_orders
SET owner = NULL, wake_at = now()
WHERE due_at BETWEEN %(due_since)s AND now()
    AND owner IS NOT NULL
    AND owner NOT IN (SELECT id FROM instances)
RETURNING order_id::text;

-- name: wake_postponed_orders
-- Make orders due that wait longer than any order does and were changed in the future, and let the rate limit's
-- slots end with their window: the clock has jumped back. (Another instance may have longer retry delays, but it
-- changes nothing in the future.) The slots keep their distances, and the latest start counts as a start of now.
WITH starts AS (
    UPDATE rate_starts AS r
    SET started_at = r.started_at - latest.ahead
    FROM (SELECT max(started_at) - now() AS ahead FROM rate_starts) AS latest
    WHERE latest.ahead > interval '1 second'
)
UPDATE open_orders AS p
SET due_at = now(), wake_at = now()
FROM orders AS o
WHERE p.due_at > now() + %(longest_wait_ms)s * interval '1 millisecond' AND p.due_at < 'infinity'
    AND o.id = p.order_id AND o.updated_at > now() + interval '10 seconds'
RETURNING p.order_id::text;

-- name: leave
-- Remove a process that stops, and release its unfinished orders for the others, or for its next start. Also wake
-- the orders whose wake-up it consumed without a claim (unclaimed; if it does not know which: all_due).
WITH gone AS (DELETE FROM instances WHERE id = %(id)s)
UPDATE open_orders
SET owner = NULL, wake_at = now()
WHERE due_at <= now()
    AND (owner = %(id)s OR owner IS NULL AND (%(all_due)s OR order_id = ANY(%(unclaimed)s::uuid[])))
RETURNING order_id::text;

-- name: requeue_orders
-- Make the sweep wake these orders again: their wake-ups were consumed and the orders not executed.
UPDATE open_orders
SET wake_at = now()
WHERE order_id = ANY(%(ids)s::uuid[]) AND owner IS NULL AND due_at <= now() AND wake_at > now();

-- name: wake_due_orders
-- Return due orders without an owner, to be enqueued, and postpone their next wake-up. Of the orders whose attempt
-- has not begun, only as many as the rate limit allows now (0: no limit), and none while trading is halted.
WITH started AS (
    SELECT order_id
    FROM open_orders
    WHERE owner IS NULL AND started AND due_at BETWEEN %(due_since)s AND now()
        AND (%(again)s OR wake_at <= now() OR wake_at > now() + %(longest_wait_ms)s * interval '1 millisecond')
    ORDER BY due_at, order_id
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
),
startable AS (
    SELECT order_id
    FROM open_orders
    WHERE owner IS NULL AND NOT started AND due_at BETWEEN %(due_since)s AND now()
        AND (%(again)s OR wake_at <= now() OR wake_at > now() + %(longest_wait_ms)s * interval '1 millisecond')
        AND /* include: trading */
    ORDER BY due_at, order_id
    LIMIT least(%(most)s, CASE WHEN %(rate_limit)s = 0 THEN %(most)s ELSE (
        SELECT count(*) FROM rate_starts WHERE started_at <= now() - %(window_ms)s * interval '1 millisecond'
    ) END)
    FOR UPDATE SKIP LOCKED
),
due AS (
    SELECT order_id FROM started
    UNION ALL
    SELECT order_id FROM startable
)
UPDATE open_orders AS p
SET wake_at = now() + %(wake_after_ms)s * interval '1 millisecond'
FROM due
WHERE p.order_id = due.order_id
RETURNING p.order_id::text;

-- name: release_orders
-- Release orders that their process has no task for.
UPDATE open_orders
SET owner = NULL, wake_at = now()
WHERE owner = %(owner)s AND order_id = ANY(%(ids)s::uuid[]);

-- name: find_idle_orders
-- Find orders that this process owns and that none of its tasks is executing.
SELECT order_id::text
FROM open_orders
WHERE due_at BETWEEN %(due_since)s AND now() AND owner = %(owner)s AND NOT order_id = ANY(%(running)s::uuid[])
LIMIT %(most)s;

-- name: take_lease
-- Take an expired lease, or renew it. Returns the epoch, which stays the same only while one process leads
-- without interruption; or, while another leads, the seconds until its lease expires unless it is renewed. A lease
-- that was renewed in the future, by a clock that has jumped back since, has expired too.
WITH taken AS (
    INSERT INTO leases AS l (name, leader, renewed_at)
    VALUES (%(name)s, %(leader)s, now())
    ON CONFLICT (name) DO UPDATE
    SET
        leader = excluded.leader,
        renewed_at = now(),
        epoch = CASE
            WHEN l.leader = excluded.leader
                AND l.renewed_at BETWEEN now() - %(lease_ms)s * interval '1 millisecond'
                    AND now() + %(lease_ms)s * interval '1 millisecond' THEN l.epoch
            ELSE l.epoch + 1
        END
    WHERE l.leader = excluded.leader
        OR %(alone)s
        OR NOT l.renewed_at BETWEEN now() - %(lease_ms)s * interval '1 millisecond'
            AND now() + %(lease_ms)s * interval '1 millisecond'
    RETURNING epoch
)
SELECT epoch, 0 AS left_s FROM taken
UNION ALL
SELECT
    NULL,
    extract(
        epoch FROM greatest(renewed_at + %(lease_ms)s * interval '1 millisecond', now()) - now()
    )::double precision
FROM leases
WHERE name = %(name)s AND NOT EXISTS (SELECT 1 FROM taken);

-- name: give_up_lease
-- Let another process lead at once.
UPDATE leases SET renewed_at = '-infinity' WHERE name = %(name)s AND leader = %(leader)s;
