-- Resting orders: scanned by the triggers, fired, and amended.

-- name: scan_resting
-- Return all resting orders that may be fired, a page at a time, ordered by id.
/* include: resting_orders */
WHERE p.order_id > %(after)s::uuid
    AND /* include: may_be_fired */
ORDER BY p.order_id
LIMIT %(limit)s;

-- name: get_resting
-- Return those of the given orders that rest and may be fired.
/* include: resting_orders */
WHERE p.order_id = ANY(%(ids)s::uuid[])
    AND /* include: may_be_fired */;

-- fragment: resting_orders
-- Open orders, with the columns that the triggers need.
SELECT
    o.id::text AS order_id, o.version, o.order_type, o.token_in, o.token_out, o.amount AS amount_in, o.limit_out,
    o.sniper_conditions, extract(epoch FROM o.created_at)::float8 AS created_at,
    -- No pause is longer than 5 minutes: PostgreSQL's clock has jumped back, and the pause begins again.
    coalesce(extract(epoch FROM CASE
        WHEN p.not_before > now() + interval '301 seconds'
            THEN now() + least(2 ^ least(p.returns - 1, 16), 300) * interval '1 second'
        ELSE p.not_before
    END), 0)::float8 AS not_before
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id

-- fragment: may_be_fired
-- Whether an order rests and may be fired.
p.resting
    AND p.approve_by IS NULL
    AND p.fired IS NULL
    AND NOT p.cancel_requested
    AND (p.expires_at IS NULL OR p.expires_at > now())

-- name: find_rested
-- Return the versions of orders that recently began to rest or were amended.
SELECT order_id::text, rested_version AS version
FROM open_orders
WHERE resting AND fired IS NULL
    AND rested_at > now() - %(within_ms)s * interval '1 millisecond'
    -- Those of a future from which PostgreSQL's clock has jumped back must not take the places of new ones.
    AND rested_at < now() + %(within_ms)s * interval '1 millisecond'
ORDER BY rested_at DESC
LIMIT %(limit)s;

-- name: fire_orders
-- Fire resting orders whose condition held at the given version: they become due now, and the observed market
-- data goes into the history when the attempt begins. Every condition is on the locked row: an order that was
-- amended meanwhile has another version there. From now on a sniper order is treated like a market order, and must
-- be submitted within the same time (0: no limit).
WITH seen AS (
    SELECT p.order_id, w.observed
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS w (id uuid, version integer, observed jsonb)
    JOIN open_orders AS p ON p.order_id = w.id
    WHERE p.rested_version = w.version
        AND /* include: may_be_fired */
        AND /* include: trading */
    ORDER BY p.order_id
    FOR UPDATE OF p
)
UPDATE open_orders AS p
SET
    fired = s.observed,
    due_at = now(),
    wake_at = now() + %(wake_after_ms)s * interval '1 millisecond',
    expires_at = CASE
        WHEN o.order_type = 'sniper' AND %(market_order_age_s)s > 0
            THEN least(p.expires_at, now() + %(market_order_age_s)s * interval '1 second')
        ELSE p.expires_at
    END
FROM seen AS s
JOIN orders AS o ON o.id = s.order_id
WHERE p.order_id = s.order_id
RETURNING p.order_id::text;

-- name: amend_order
-- Amend an open order, if it is still at the version that the writer read. If it was fired on its old terms and
-- no attempt has begun, it rests again. One that awaits approval still does, until the same time; with
-- approve_within_s (null: no) any order awaits it from now on. The row of open_orders is locked first, as in every
-- statement that locks both.
WITH place AS (
    SELECT order_id, coalesce(approve_by, now() + %(approve_within_s)s * interval '1 second') AS approve_by
    FROM open_orders
    WHERE order_id = %(id)s
        AND (resting OR approve_by IS NOT NULL)
        AND NOT cancel_requested
        AND (expires_at IS NULL OR expires_at > now())
    FOR UPDATE
),
moved AS (
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
        expires_at = %(expires_at)s,
        -- The lower one of the keys that placed and amended it; a null is no limit.
        max_price_impact_bps = least(o.max_price_impact_bps, %(max_price_impact_bps)s::integer)
    FROM place
    WHERE o.id = place.order_id AND o.version = %(version)s AND o.status = 'open'
    RETURNING
        o.id, o.account, o.order_type, o.label, o.status, o.version, o.status_history -> -1 AS entry, o.expires_at,
        place.approve_by
),
changed AS (SELECT id, account, order_type, label, status, version FROM moved),
/* include: recorded */,
/* include: notified */,
rested AS (
    UPDATE open_orders AS p
    SET
        due_at = 'infinity',
        wake_at = 'infinity',
        resting = m.approve_by IS NULL,
        fired = NULL,
        rested_at = now(),
        rested_version = m.version,
        not_before = NULL,
        returns = 0,
        approve_by = m.approve_by,
        expires_at = least(m.expires_at, m.approve_by)
    FROM moved AS m
    WHERE p.order_id = m.id
)
SELECT entry FROM moved;
