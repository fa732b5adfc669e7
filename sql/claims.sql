-- Claims: starting the execution of orders, and continuing the orders of a process that died.

-- name: claim_orders
-- Claim due orders without an owner for this process: a pending one, or an open one that was fired, begins an
-- attempt (one entry: routing); one that another process left in execution continues from its last step (no
-- entry). An expired order does not start, none starts while trading is halted, and a process that was declared
-- dead gets none. An order that this process already owns is returned again, so the statement can be repeated.
WITH wanted AS (
    -- In a fixed order, as in every statement that locks several.
    SELECT row.id, row.write_id
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (id uuid, write_id text)
    JOIN open_orders AS p ON p.order_id = row.id
    ORDER BY p.order_id
    FOR UPDATE OF p
),
claimed AS (
    UPDATE open_orders AS p
    SET owner = %(owner)s, started = true, resting = false
    FROM wanted AS w
    WHERE p.order_id = w.id
        AND EXISTS (SELECT 1 FROM instances AS i WHERE i.id = %(owner)s)
        AND p.approve_by IS NULL
        AND (
            p.owner = %(owner)s
            OR p.owner IS NULL
                AND p.due_at <= now()
                AND (p.started OR p.expires_at IS NULL OR p.expires_at > now())
                AND (p.started OR /* include: trading */)
        )
    RETURNING p.order_id, p.fired, w.write_id
),
/* include: refused */,
/* include: started */,
changed AS (SELECT id, account, order_type, label, status, version FROM started),
/* include: recorded */,
/* include: notified */,
handed AS (
    SELECT id, status, version, attempts, entry FROM started
    UNION ALL
    SELECT o.id, o.status, o.version, o.attempts, NULL
    FROM claimed AS c
    JOIN orders AS o ON o.id = c.order_id
    WHERE o.status NOT IN ('pending', 'open')
)
/* include: claimed_orders */;

-- name: claim_orders_at_rate
-- claim_orders with the rate limit: a start takes a row of rate_starts that was not used within the window;
-- the order due for longest starts first. Deferred orders return how long to wait; 0 for an order that another
-- transaction has locked.
WITH wanted AS (
    -- In a fixed order, so that two processes with the same orders cannot deadlock. A row that another
    -- transaction has locked is most probably being claimed.
    SELECT row.id, row.write_id
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (id uuid, write_id text)
    JOIN open_orders AS p ON p.order_id = row.id
    ORDER BY p.order_id
    FOR UPDATE OF p SKIP LOCKED
),
free AS (
    SELECT slot, row_number() OVER (ORDER BY started_at, slot) AS place
    FROM (
        SELECT slot, started_at
        FROM rate_starts
        WHERE started_at <= now() - %(window_ms)s * interval '1 millisecond'
        ORDER BY started_at, slot
        LIMIT (SELECT count(*) FROM wanted)
        FOR UPDATE SKIP LOCKED
    ) AS unused
),
line AS (
    SELECT order_id, row_number() OVER (ORDER BY due_at, order_id) AS place
    FROM open_orders
    WHERE owner IS NULL AND NOT started AND due_at <= now() AND (expires_at IS NULL OR expires_at > now())
        AND /* include: trading */
    ORDER BY due_at, order_id
    LIMIT (SELECT count(*) FROM rate_starts WHERE started_at <= now() - %(window_ms)s * interval '1 millisecond')
),
admitted AS (
    SELECT w.id, w.write_id, row_number() OVER (ORDER BY line.place) AS place
    FROM wanted AS w
    JOIN line ON line.order_id = w.id
),
claimed AS (
    UPDATE open_orders AS p
    SET owner = %(owner)s, started = true, resting = false
    FROM admitted AS a
    JOIN free ON free.place = a.place
    WHERE p.order_id = a.id
        AND EXISTS (SELECT 1 FROM instances AS i WHERE i.id = %(owner)s)
        AND p.owner IS NULL
        AND p.approve_by IS NULL
        AND NOT p.started
        AND (p.expires_at IS NULL OR p.expires_at > now())
    RETURNING p.order_id, p.fired, a.write_id, free.slot
),
/* include: started */,
changed AS (SELECT id, account, order_type, label, status, version FROM started),
/* include: recorded */,
/* include: notified */,
used AS (
    UPDATE rate_starts AS r
    SET started_at = s.updated_at
    FROM started AS s
    JOIN claimed AS c ON c.order_id = s.id
    WHERE r.slot = c.slot
),
continued AS (
    UPDATE open_orders AS p
    SET owner = %(owner)s
    FROM wanted AS w
    WHERE p.order_id = w.id
        AND EXISTS (SELECT 1 FROM instances AS i WHERE i.id = %(owner)s)
        AND p.started
        AND (p.owner = %(owner)s OR p.owner IS NULL AND p.due_at <= now())
    RETURNING p.order_id
),
/* include: refused */,
next_free AS (
    -- If a slot is free but it is not this order's turn, the order before it will be woken soon.
    SELECT CASE WHEN min(started_at) > now() - %(window_ms)s * interval '1 millisecond'
        THEN min(started_at) + %(window_ms)s * interval '1 millisecond'
        ELSE now() + interval '1 second'
    END AS at
    FROM rate_starts
),
deferred AS (
    UPDATE open_orders AS p
    SET wake_at = next_free.at
    FROM wanted AS w, next_free
    WHERE p.order_id = w.id
        AND EXISTS (SELECT 1 FROM instances AS i WHERE i.id = %(owner)s)
        AND p.owner IS NULL
        AND NOT p.started
        AND p.due_at <= now()
        AND NOT EXISTS (
            SELECT 1 FROM admitted AS a JOIN free ON free.place = a.place WHERE a.id = p.order_id
        )
    RETURNING p.order_id, extract(epoch FROM p.wake_at - now()) * 1000 AS wait_ms
),
handed AS (
    SELECT id, status, version, attempts, entry FROM started
    UNION ALL
    SELECT o.id, o.status, o.version, o.attempts, NULL
    FROM continued AS c
    JOIN orders AS o ON o.id = c.order_id
)
/* include: claimed_orders */
UNION ALL
SELECT
    order_id::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL,
    ceil(wait_ms)::integer
FROM deferred
UNION ALL
-- Locked by another transaction, which may not be a claim.
SELECT
    p.order_id::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL,
    0
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (id uuid)
JOIN open_orders AS p ON p.order_id = row.id
WHERE p.owner IS NULL AND p.due_at <= now() AND NOT EXISTS (SELECT 1 FROM wanted AS w WHERE w.id = p.order_id);

-- fragment: refused
-- A process that was declared dead gets none of the ``wanted``; the wake-ups it has consumed are sent again.
refused AS (
    UPDATE open_orders AS p
    SET wake_at = now()
    FROM wanted AS w
    WHERE p.order_id = w.id
        AND p.owner IS NULL
        AND p.due_at <= now()
        AND NOT EXISTS (SELECT 1 FROM instances AS i WHERE i.id = %(owner)s)
)

-- fragment: started
-- Of the ``claimed``, pending and open orders begin an attempt: one entry, with the data that fired them.
started AS (
    UPDATE orders AS o
    SET
        status = 'routing',
        version = o.version + 1,
        attempts = o.attempts + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, 'routing', greatest(o.updated_at, now()),
            coalesce(c.fired, '{}')
                || jsonb_build_object('attempt', o.attempts + 1, 'writeId', c.write_id)
        )
    FROM claimed AS c
    WHERE o.id = c.order_id AND o.status IN ('pending', 'open')
    RETURNING
        o.id, o.account, o.order_type, o.label, o.status, o.version, o.attempts,
        o.status_history -> -1 AS entry, o.updated_at
)

-- fragment: claimed_orders
-- Return what a process needs to execute the orders that were ``handed`` to it.
SELECT
    h.id::text, o.order_type, o.token_in, o.token_out, o.swap_mode, o.amount, o.slippage_bps,
    o.time_in_force, o.limit_out, o.max_price_impact_bps,
    extract(epoch FROM o.expires_at)::float8 AS expires_at,
    extract(epoch FROM p.expires_at)::float8 AS submit_by, h.status, h.version, h.attempts,
    h.attempts - p.attempts_before AS attempts_since_rest,
    CASE WHEN h.attempts > 1 THEN jsonb_array_length(
        jsonb_path_query_array(o.status_history, '$[*] ? (@.reason == "attempt_expired")')
    ) ELSE 0 END AS expired_attempts,
    h.entry, NULL::integer AS wait_ms
FROM handed AS h
JOIN orders AS o ON o.id = h.id
JOIN open_orders AS p ON p.order_id = h.id

-- name: set_rate_limit
-- Resize rate_starts to the limit, if they differ: its rows then hold the latest starts from the histories, or
-- none. The lock blocks claims meanwhile. (Statements sent together are one transaction.)
SET LOCAL statement_timeout = 0;
LOCK TABLE rate_starts IN EXCLUSIVE MODE;
CREATE TEMPORARY TABLE latest ON COMMIT DROP AS
SELECT (entry ->> 'timestamp')::timestamptz AS started_at
FROM orders, jsonb_array_elements(status_history) AS entry
WHERE (SELECT count(*) FROM rate_starts) <> %(rate_limit)s
    AND updated_at > now() - %(window_ms)s * interval '1 millisecond'
    AND entry ->> 'status' = 'routing'
    AND (entry ->> 'timestamp')::timestamptz > now() - %(window_ms)s * interval '1 millisecond'
ORDER BY 1 DESC
LIMIT %(rate_limit)s;
DELETE FROM rate_starts WHERE (SELECT count(*) FROM rate_starts) <> %(rate_limit)s;
INSERT INTO rate_starts (slot, started_at)
SELECT slot, coalesce(started_at, '-infinity')
FROM generate_series(1, %(rate_limit)s) AS slot
LEFT JOIN (SELECT started_at, row_number() OVER () AS slot FROM latest) AS l USING (slot)
ON CONFLICT DO NOTHING;
