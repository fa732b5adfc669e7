-- Approvals: an order that awaits approval neither rests nor is due, until it is approved.

-- name: approve_order
-- Approve an order that awaits approval, if it is still at the version that the approver read. One that rests begins
-- to; any other is due now, and its time limit (submit_within_s; null: none) begins. The row of open_orders is locked
-- first, as in every statement that locks both: of concurrent decisions, cancellations and the expiry, one wins.
WITH place AS (
    SELECT p.order_id
    FROM open_orders AS p
    WHERE p.order_id = %(id)s
        AND /* include: may_be_decided */
        AND /* include: trading */
    FOR UPDATE
),
moved AS (
    UPDATE orders AS o
    SET
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, 'open', greatest(o.updated_at, now()), %(detail)s::jsonb
        )
    FROM place
    WHERE o.id = place.order_id AND o.version = %(version)s AND o.status = 'open'
    RETURNING
        o.id, o.account, o.order_type, o.label, o.status, o.version, o.status_history -> -1 AS entry, o.expires_at
),
changed AS (SELECT id, account, order_type, label, status, version FROM moved),
/* include: recorded */,
/* include: notified */,
approved AS (
    UPDATE open_orders AS p
    SET
        approve_by = NULL,
        resting = %(rests)s,
        rested_at = now(),
        rested_version = m.version,
        fired = CASE WHEN %(rests)s THEN NULL ELSE '{}'::jsonb END,
        due_at = CASE WHEN %(rests)s THEN 'infinity' ELSE now() END,
        wake_at = CASE
            WHEN %(rests)s THEN 'infinity'
            ELSE now() + %(wake_after_ms)s * interval '1 millisecond'
        END,
        expires_at = least(m.expires_at, now() + %(submit_within_s)s * interval '1 second')
    FROM moved AS m
    WHERE p.order_id = m.id
)
SELECT entry FROM moved;

-- name: refuse_order
-- Refuse an order that awaits approval, if it is still at the version that was read: it is cancelled.
WITH place AS (
    SELECT p.order_id
    FROM open_orders AS p
    WHERE p.order_id = %(id)s
        AND /* include: may_be_decided */
    FOR UPDATE
),
moved AS (
    UPDATE orders AS o
    SET
        status = 'cancelled',
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, 'cancelled', greatest(o.updated_at, now()), %(detail)s::jsonb
        )
    FROM place
    WHERE o.id = place.order_id AND o.version = %(version)s AND o.status = 'open'
    RETURNING
        o.id, o.account, o.order_type, o.label, o.version, o.created_at, o.status,
        o.status_history -> -1 AS entry, o.token_in, o.token_out, o.venue
),
changed AS (SELECT id, account, order_type, label, status, version FROM moved),
/* include: recorded */,
/* include: notified */,
/* include: closed */
SELECT entry FROM moved;

-- fragment: may_be_decided
-- Whether an order awaits approval, and can still be approved or refused.
p.approve_by IS NOT NULL
    AND NOT p.cancel_requested
    AND p.expires_at > now()
