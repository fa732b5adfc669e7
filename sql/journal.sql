-- Every write of an order. Each statement takes a group of rows as one JSON array, is a transaction
-- of its own, and can be repeated: a row that is there already is not written twice.

-- name: insert_orders
-- Accept orders: the order, its place among the open ones, and its client's id, or none of them.
-- A client order id that is taken keeps its order out; the caller reads what is there.
WITH wanted AS (
    SELECT *
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
        id uuid, account text, client_order_id text, order_type text, token_in text, token_out text,
        swap_mode text, amount numeric, amount_text text, slippage_bps integer, write_id text
    )
),
named AS (
    INSERT INTO client_orders (account, client_order_id, order_id)
    SELECT account, client_order_id, id
    FROM wanted
    WHERE client_order_id IS NOT NULL
    ORDER BY account, client_order_id
    ON CONFLICT DO NOTHING
    RETURNING order_id
),
inserted AS (
    INSERT INTO orders (
        id, account, client_order_id, order_type, token_in, token_out, swap_mode, amount, amount_text,
        slippage_bps, status, version, status_history, created_at, updated_at
    )
    SELECT
        id, account, client_order_id, order_type, token_in, token_out, swap_mode, amount, amount_text,
        slippage_bps, 'pending', 1,
        appended('[]', 'pending', now(), jsonb_build_object('writeId', write_id)),
        now(), now()
    FROM wanted
    WHERE client_order_id IS NULL OR id IN (SELECT order_id FROM named)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, created_at
),
opened AS (
    -- The insert's own wake-up is on its way: the sweep need not send one before it can be late.
    INSERT INTO open_orders (order_id, created_at, due_at, wake_at)
    SELECT id, created_at, now(), now() + %(wake_after_ms)s * interval '1 millisecond'
    FROM inserted
)
SELECT id::text, rfc3339(created_at) FROM inserted;

-- name: append_transitions
-- Move orders one step each, if they are still at the version that their writer saw and belong to it.
-- A new attempt is not made for a process that may have been judged dead.
-- What the step brings with it (offers, an attempt, a fill, an end) is written for the rows that moved.
WITH wanted AS (
    SELECT *
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
        id uuid, version integer, owner uuid, status text, detail jsonb, retry_in_ms integer,
        offers jsonb, route jsonb, attempt jsonb, amount_in numeric, amount_out numeric, tx_hash text
    )
),
moved AS (
    UPDATE orders AS o
    SET
        status = w.status,
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, w.status, greatest(o.updated_at, now()),
            CASE WHEN w.retry_in_ms IS NULL THEN w.detail ELSE w.detail || jsonb_build_object(
                'nextTryAt', rfc3339(now() + w.retry_in_ms * interval '1 millisecond')
            ) END
        ),
        amount_in = w.amount_in,
        amount_out = w.amount_out,
        tx_hash = w.tx_hash
    FROM wanted AS w
    WHERE o.id = w.id
        AND o.version = w.version
        AND EXISTS (SELECT 1 FROM open_orders AS p WHERE p.order_id = w.id AND p.owner = w.owner)
        AND (w.attempt IS NULL OR EXISTS (
            SELECT 1
            FROM instances AS i
            WHERE i.id = w.owner
                AND i.seen_at > now() - %(instance_timeout_ms)s * interval '1 millisecond'
        ))
    RETURNING
        o.id, o.version, o.created_at, o.status, o.status_history -> -1 AS entry,
        w.retry_in_ms, w.offers, w.route, w.attempt
),
offered AS (
    INSERT INTO order_quotes (order_id, sequence, offers, route)
    SELECT id, version, offers, route FROM moved WHERE offers IS NOT NULL
),
attempted AS (
    INSERT INTO attempts (
        id, order_id, sequence, venue, transaction, maximum_in, minimum_out, last_valid_height
    )
    SELECT
        attempt ->> 'id', id, version, attempt ->> 'venue', decode(attempt ->> 'transaction', 'base64'),
        (attempt ->> 'maximum_in')::numeric, (attempt ->> 'minimum_out')::numeric, (attempt ->> 'last_valid_height')::bigint
    FROM moved
    WHERE attempt IS NOT NULL
),
waiting AS (
    UPDATE open_orders AS p
    SET
        owner = NULL,
        started = false,
        due_at = now() + m.retry_in_ms * interval '1 millisecond',
        wake_at = now() + m.retry_in_ms * interval '1 millisecond'
    FROM moved AS m
    WHERE p.order_id = m.id AND m.status = 'pending'
),
closed AS (
    DELETE FROM open_orders AS p
    USING moved AS m
    WHERE p.order_id = m.id AND m.status IN ('confirmed', 'failed', 'cancelled', 'expired')
),
finished AS (
    INSERT INTO finished_orders (status, created_at, order_id)
    SELECT status, created_at, id
    FROM moved
    WHERE status IN ('confirmed', 'failed', 'cancelled', 'expired')
)
SELECT id::text, entry FROM moved;

-- name: read_entries_back
-- The history entries at which uncertain transitions would stand, to see whose they are.
SELECT o.id::text, o.status_history -> row.version
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (id uuid, version integer)
JOIN orders AS o ON o.id = row.id;
