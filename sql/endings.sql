-- Endings without a fill: cancellation and expiry.

-- name: request_cancel
-- Flag orders of an account (null: any) for cancellation. Their status must be read only after this has committed.
UPDATE open_orders
SET cancel_requested = true
WHERE order_id = ANY(%(ids)s::uuid[]) AND (%(account)s::text IS NULL OR account = %(account)s);

-- name: request_cancel_matching
-- Flag the open orders that match a filter (null: any), a page at a time, ordered by id; only
-- those placed before the first page was read (until; null: this is the first page). Returns their ids and that
-- time.
WITH wanted AS (
    SELECT p.order_id
    FROM open_orders AS p
    JOIN orders AS o ON o.id = p.order_id
    WHERE p.order_id > %(after)s::uuid
        AND (%(account)s::text IS NULL OR p.account = %(account)s)
        AND p.created_at <= coalesce(%(until)s::timestamptz, now())
        AND /* include: matching */
    ORDER BY p.order_id
    LIMIT %(most)s
    FOR UPDATE OF p
)
UPDATE open_orders AS p
SET cancel_requested = true
FROM wanted AS w
WHERE p.order_id = w.order_id
RETURNING p.order_id::text, coalesce(%(until)s::timestamptz, now())::text AS until;

-- name: count_cancelled
-- Count how many of the given orders are cancelled, and how many may still be.
SELECT
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE status NOT IN ('cancelled', 'confirmed', 'failed', 'expired')) AS still_open
FROM orders
WHERE id = ANY(%(ids)s::uuid[]);

-- name: end_cancelled
-- Cancel flagged orders that have not been submitted; a process that executes one then fails on its version.
-- Submitted orders continue until their outcome is known.
WITH flagged AS (
    SELECT p.order_id
    FROM open_orders AS p
    JOIN orders AS o ON o.id = p.order_id
    WHERE p.cancel_requested
        AND (%(ids)s::uuid[] IS NULL OR p.order_id = ANY(%(ids)s::uuid[]))
        AND o.status IN ('pending', 'open', 'routing', 'building')
    ORDER BY p.order_id
    LIMIT %(most)s
    FOR UPDATE OF p
),
moved AS (
    UPDATE orders AS o
    SET
        status = 'cancelled',
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, 'cancelled', greatest(o.updated_at, now()),
            jsonb_build_object('writeId', %(write_id)s)
        )
    FROM flagged AS f
    WHERE o.id = f.order_id AND o.status IN ('pending', 'open', 'routing', 'building')
    RETURNING
        o.id, o.account, o.order_type, o.label, o.version, o.created_at, o.status,
        o.status_history -> -1 AS entry, o.token_in, o.token_out, o.venue
),
changed AS (SELECT id, account, order_type, label, status, version FROM moved),
/* include: recorded */,
/* include: notified */,
/* include: closed */
SELECT id::text, entry FROM moved;

-- name: end_expired
-- Expire orders that have not been submitted in time; a process that executes one then fails on its version. If
-- the time for its approval or its submission has passed and not the order's own expiry, the entry has the reason.
WITH over AS (
    SELECT p.order_id, p.approve_by
    FROM open_orders AS p
    JOIN orders AS o ON o.id = p.order_id
    WHERE p.expires_at <= now() AND o.status IN ('pending', 'open', 'routing', 'building')
    ORDER BY p.expires_at
    LIMIT %(most)s
    FOR UPDATE OF p SKIP LOCKED
),
moved AS (
    UPDATE orders AS o
    SET
        status = 'expired',
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, 'expired', greatest(o.updated_at, now()),
            jsonb_build_object('writeId', %(write_id)s) || CASE
                WHEN o.expires_at <= now() THEN '{}'
                WHEN over.approve_by IS NOT NULL THEN %(not_approved)s::jsonb
                WHEN o.time_in_force IN ('IOC', 'FOK') THEN %(not_at_once)s::jsonb
                ELSE %(not_in_time)s::jsonb
            END
        )
    FROM over
    WHERE o.id = over.order_id AND o.status IN ('pending', 'open', 'routing', 'building')
    RETURNING
        o.id, o.account, o.order_type, o.label, o.version, o.created_at, o.status,
        o.status_history -> -1 AS entry, o.token_in, o.token_out, o.venue
),
changed AS (SELECT id, account, order_type, label, status, version FROM moved),
/* include: recorded */,
/* include: notified */,
/* include: closed */
SELECT id::text, entry FROM moved;

-- name: set_cancel_timer
-- Set when all open orders of an account are cancelled, or renew it.
INSERT INTO cancel_timers (account, cancels_at)
VALUES (%(account)s, now() + %(timeout_ms)s * interval '1 millisecond')
ON CONFLICT (account) DO UPDATE SET cancels_at = excluded.cancels_at
RETURNING rfc3339(cancels_at) AS cancels_at;

-- name: clear_cancel_timer
-- Have the orders of an account not cancelled by time.
DELETE FROM cancel_timers WHERE account = %(account)s;

-- name: find_expired_cancel_timers
-- Return the accounts whose orders are to be cancelled now, and the time before which these were placed.
SELECT account, cancels_at::text FROM cancel_timers WHERE cancels_at <= now();

-- name: delete_expired_cancel_timer
-- Delete a timer whose orders have been cancelled, unless it was renewed meanwhile: even if it has expired again.
DELETE FROM cancel_timers WHERE account = %(account)s AND cancels_at = %(cancels_at)s::timestamptz;
