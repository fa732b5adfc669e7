-- The audit of the orders. What the venue's ledger has is audited by the venue's own statements.

-- name: audit
-- Return every violation: the order or API key, and a description.
WITH steps AS (
    SELECT
        o.id, e.place, e.entry,
        lag(e.entry) OVER (PARTITION BY o.id ORDER BY e.place) AS previous
    FROM orders AS o
    CROSS JOIN LATERAL jsonb_array_elements(o.status_history) WITH ORDINALITY AS e (entry, place)
),
approvals AS (
    -- Of the orders that had to be approved, up to each step: the last entry that requires it, and the last approval.
    SELECT
        o.id, e.place, e.entry,
        max(e.place) FILTER (WHERE e.entry ? 'awaitingApproval') OVER up_to AS required,
        coalesce(max(e.place) FILTER (WHERE e.entry ? 'approvedBy') OVER up_to, 0) AS approved
    FROM orders AS o
    CROSS JOIN LATERAL jsonb_array_elements(o.status_history) WITH ORDINALITY AS e (entry, place)
    WHERE o.status_history @> '[{"awaitingApproval": true}]'
    WINDOW up_to AS (PARTITION BY o.id ORDER BY e.place)
)
SELECT id::text AS subject, 'expired ' || extract(epoch FROM expires_at - updated_at) || ' s before its time' AS what
FROM orders
WHERE status = 'expired' AND NOT status_history -> -1 ? 'reason' AND updated_at < expires_at
UNION ALL
SELECT id::text, 'entry ' || place || ' has the sequence ' || (entry ->> 'sequence')
FROM steps
WHERE (entry ->> 'sequence')::integer <> place
UNION ALL
SELECT id::text, 'entry ' || place || ' is earlier than the one before'
FROM steps
WHERE (entry ->> 'timestamp')::timestamptz < (previous ->> 'timestamp')::timestamptz
UNION ALL
SELECT id::text, coalesce(previous ->> 'status', 'nothing') || ' was followed by ' || (entry ->> 'status')
FROM steps
WHERE NOT coalesce(previous ->> 'status', '') || '>' || (entry ->> 'status') = ANY(%(legal)s)
UNION ALL
SELECT id::text, (entry ->> 'status') || ', and was not approved'
FROM approvals
WHERE entry ->> 'status' IN ('routing', 'submitted') AND required > approved
UNION ALL
-- Only open_orders decides whether an order may be fired or started: it must agree with the history.
SELECT
    o.id::text,
    CASE WHEN p.approve_by IS NULL THEN 'awaits approval, and may be executed without'
        ELSE 'awaits no approval, and waits for one' END
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
LEFT JOIN approvals AS a ON a.id = o.id AND a.place = o.version
WHERE (o.status = 'open' AND coalesce(a.required > a.approved, false)) <> (p.approve_by IS NOT NULL)
UNION ALL
SELECT o.id::text, o.status || ', and not among the open orders'
FROM orders AS o
WHERE o.status IN ('pending', 'open', 'routing', 'building', 'submitted')
    AND NOT EXISTS (SELECT 1 FROM open_orders AS p WHERE p.order_id = o.id)
UNION ALL
SELECT o.id::text, o.status || ', and still among the open orders'
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
WHERE o.status IN ('confirmed', 'failed', 'cancelled', 'expired')
UNION ALL
-- An order that waits for the rate limit is woken repeatedly; one that is not woken is overdue.
SELECT p.order_id::text, 'due since ' || rfc3339(p.due_at) || ', and no process has claimed it'
FROM open_orders AS p
WHERE p.owner IS NULL
    AND greatest(p.due_at, p.wake_at) < now() - %(patience_s)s * interval '1 second'
UNION ALL
SELECT p.order_id::text, 'owned by a process that is gone'
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
LEFT JOIN instances AS i ON i.id = p.owner
WHERE p.owner IS NOT NULL
    AND coalesce(i.seen_at, o.updated_at) < now() - %(patience_s)s * interval '1 second'
UNION ALL
-- An open order of the last 24 hours is counted towards its key's budgets. The minute in which they begin is left out:
-- it may have been deleted meanwhile.
SELECT
    o.key_id,
    'its open orders use ' || o.amount || ' base units of ' || o.token || ' and ' || o.usd
        || ' millionths of a dollar of ' || rfc3339(o.minute) || ', and less is counted'
FROM (
    SELECT
        key_id, date_trunc('minute', created_at) AS minute, used_token AS token,
        sum(coalesce(used_amount, 0)) AS amount, sum(coalesce(used_usd, 0)) AS usd
    FROM open_orders
    WHERE used_token IS NOT NULL AND created_at >= usage_begins() + interval '1 minute'
    GROUP BY 1, 2, 3
) AS o
LEFT JOIN (
    SELECT e.key_id, e.minute, e.token, sum(e.amount) AS amount, sum(e.usd) AS usd
    FROM (
        SELECT u.key_id, u.minute, u.token, u.amount, u.usd FROM key_usage AS u
        UNION ALL
        SELECT r.key_id, r.minute, r.token, -r.amount, -r.usd FROM key_refunds AS r
    ) AS e
    GROUP BY 1, 2, 3
) AS c ON (c.key_id, c.minute, c.token) = (o.key_id, o.minute, o.token)
WHERE coalesce(c.amount, 0) < o.amount OR coalesce(c.usd, 0) < o.usd
UNION ALL
SELECT
    o.id::text,
    'cost ' || coalesce(o.network_cost::text, 'nothing') || ' lamports, and its transactions '
        || coalesce(t.cost::text, 'nothing')
FROM orders AS o
LEFT JOIN (
    SELECT order_id, sum(network_fee + tip + rent) AS cost FROM transactions GROUP BY order_id
) AS t ON t.order_id = o.id
WHERE o.network_cost IS DISTINCT FROM t.cost;

-- name: count_orders
-- Count the orders that the audit checks.
SELECT
    (SELECT count(*) FROM orders) AS orders,
    (SELECT count(*) FROM open_orders) AS open_orders;
