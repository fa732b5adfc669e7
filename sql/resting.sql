-- Orders that rest until a trigger fires them.

-- name: scan_resting
-- All resting orders that no trigger has fired, a page at a time in the order of their ids.
SELECT
    o.id::text, o.version, o.order_type, o.token_in, o.token_out, o.amount, o.limit_out,
    o.sniper_conditions, extract(epoch FROM o.created_at)::float8,
    coalesce(extract(epoch FROM p.not_before), 0)::float8
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
WHERE p.order_id > %(after)s::uuid AND p.resting AND p.fired IS NULL
ORDER BY p.order_id
LIMIT %(limit)s;

-- name: get_resting
-- Those of some orders that rest and that no trigger has fired.
SELECT
    o.id::text, o.version, o.order_type, o.token_in, o.token_out, o.amount, o.limit_out,
    o.sniper_conditions, extract(epoch FROM o.created_at)::float8,
    coalesce(extract(epoch FROM p.not_before), 0)::float8
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
WHERE p.order_id = ANY(%(ids)s::uuid[]) AND p.resting AND p.fired IS NULL;

-- name: find_rested
-- Orders that began to rest, or were amended, in the last while.
SELECT order_id::text
FROM open_orders
WHERE resting AND rested_at > now() - %(within_ms)s * interval '1 millisecond';

-- name: fire_orders
-- Have orders executed that rest and whose condition was seen to hold, as they stood at a version. Each is
-- due from now on; what was seen goes into its history when its try begins.
UPDATE open_orders AS p
SET
    fired = w.observed,
    due_at = now(),
    wake_at = now() + %(wake_after_ms)s * interval '1 millisecond'
FROM jsonb_to_recordset(%(rows)s::jsonb) AS w (id uuid, version integer, observed jsonb)
JOIN orders AS o ON o.id = w.id
WHERE p.order_id = w.id
    AND p.resting
    AND p.fired IS NULL
    AND NOT p.cancel_requested
    AND (p.expires_at IS NULL OR p.expires_at > now())
    AND o.status = 'open'
    AND o.version = w.version
RETURNING p.order_id::text;

-- name: amend_order
-- Give an open order other terms, if it is still as its writer saw it. It may be fired at once, if it had
-- been: that is undone.
WITH moved AS (
    UPDATE orders AS o
    SET
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, 'open', greatest(o.updated_at, now()), %(detail)s::jsonb
        ),
        slippage_bps = %(slippage_bps)s,
        time_in_force = %(time_in_force)s,
        limit_price = %(limit_price)s,
        limit_out = %(limit_out)s,
        sniper_conditions = %(sniper_conditions)s::jsonb,
        expires_at = %(expires_at)s
    WHERE o.id = %(id)s
        AND o.version = %(version)s
        AND o.status = 'open'
        AND EXISTS (
            SELECT 1
            FROM open_orders AS p
            WHERE p.order_id = o.id
                AND NOT p.cancel_requested
                AND (p.expires_at IS NULL OR p.expires_at > now())
        )
    RETURNING o.id, o.status_history -> -1 AS entry, o.expires_at
),
rested AS (
    UPDATE open_orders AS p
    SET
        due_at = 'infinity',
        wake_at = 'infinity',
        fired = NULL,
        rested_at = now(),
        not_before = NULL,
        returns = 0,
        expires_at = m.expires_at
    FROM moved AS m
    WHERE p.order_id = m.id
)
SELECT entry FROM moved;
