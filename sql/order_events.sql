-- The events of orders: reading those of a stream, and deleting old ones. The statements that append to a history
-- insert them.

-- name: get_event_horizon
-- Return PostgreSQL's current snapshot, the next transaction id, the last event in the snapshot (null: there is none),
-- the time, and the era of the transaction ids. The snapshot's xmax follows the last id that had ended; ids from there
-- on may have been assigned. age() counts from the next id, which is read after the snapshot was taken.
SELECT
    current.snapshot::text,
    pg_snapshot_xmax(current.snapshot)::text::bigint + age(pg_snapshot_xmax(current.snapshot)::xid) AS next_xid,
    last.id AS last_id, last.order_id::text AS last_order_id, last.version AS last_version,
    extract(epoch FROM now())::float8 AS at, xid_era() AS era
FROM (SELECT pg_current_snapshot() AS snapshot) AS current
LEFT JOIN (SELECT id, order_id, version FROM order_events ORDER BY id DESC LIMIT 1) AS last ON true;

-- name: get_event_up_to
-- Return the last event up to an id.
SELECT id, order_id::text, version
FROM order_events
WHERE id <= %(id)s
ORDER BY id DESC
LIMIT 1;

-- name: read_order_events
-- Return a page of the events between two snapshots, in the order of their ids, of some accounts (null: all). Those up
-- to base_last_id belong to transactions that ran at the first snapshot: some of those that it lists (ended), or of
-- those from its xmax to the next id. All others have higher ids.
WITH listed AS (
    SELECT id, account, order_id, version
    FROM order_events
    WHERE xid = ANY(%(ended)s::xid8[])
        AND id <= %(base_last_id)s::bigint
        AND /* include: on_page */
    ORDER BY id + 0  -- these are few: found by xid, not by reading all ids from the first on
    LIMIT %(most)s
),
assigned AS (
    SELECT id, account, order_id, version
    FROM order_events
    WHERE xid >= %(xmax)s::xid8
        AND xid < %(next_xid)s::xid8
        AND id <= %(base_last_id)s::bigint
        AND /* include: on_page */
    ORDER BY id + 0
    LIMIT %(most)s
),
new AS (
    SELECT id, account, order_id, version
    FROM order_events
    WHERE id > %(base_last_id)s::bigint
        AND id <= %(until)s::bigint
        AND /* include: on_page */
    ORDER BY id
    LIMIT %(most)s
),
page AS (
    SELECT * FROM listed
    UNION ALL
    SELECT * FROM assigned
    UNION ALL
    SELECT * FROM new
    ORDER BY id
    LIMIT %(most)s
)
SELECT
    page.id, page.order_id::text, page.account, o.client_order_id, o.label, o.order_type, o.token_in, o.token_out,
    o.swap_mode, o.amount_text, o.decimals_in, o.decimals_out, o.amount_in, o.amount_out,
    o.status_history -> (page.version - 1) AS entry
FROM page
JOIN orders AS o ON o.id = page.order_id
ORDER BY page.id;

-- fragment: on_page
-- Whether an event follows the page before, is in the second snapshot, and is of one of the accounts.
id > %(after)s::bigint
    AND pg_visible_in_snapshot(xid, %(target)s::pg_snapshot)
    AND (%(accounts)s::text[] IS NULL OR account = ANY(%(accounts)s::text[]))

-- name: delete_old_events
-- Delete the first events, a limited number, as far as they are older than 25 hours, and not the last one: clients'
-- positions are compared with it. Returns one row for each.
DELETE FROM order_events
WHERE id IN (
    SELECT id
    FROM order_events
    -- So that rows are locked only if there is something to delete.
    WHERE (SELECT at FROM order_events ORDER BY id LIMIT 1) < now() - interval '25 hours'
    ORDER BY id
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
    AND at < now() - interval '25 hours'
    AND id < (SELECT max(id) FROM order_events)
RETURNING true;

-- name: delete_foreign_events
-- Delete events, a limited number, whose transaction ids are not assigned yet: they were restored from another
-- cluster. Returns one row for each.
DELETE FROM order_events
WHERE id IN (
    SELECT id
    FROM order_events
    WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING true;
