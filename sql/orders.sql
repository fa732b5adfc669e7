-- Reading orders.

-- name: get_orders
-- Return orders by id, with the quotes of their last attempt.
SELECT
    o.id::text, o.account, o.mode, o.client_order_id, o.label, o.order_type, o.token_in, o.token_out, o.swap_mode,
    o.amount, o.amount_text, o.slippage_bps, o.time_in_force, o.limit_price, o.limit_out,
    o.sniper_conditions, rfc3339(o.expires_at) AS expires_at, o.decimals_in, o.decimals_out, o.status_history,
    rfc3339(o.created_at) AS created_at, o.quoted_in, o.quoted_out, o.amount_in, o.amount_out, o.tx_hash,
    q.sequence, q.quotes, q.route
FROM orders AS o
LEFT JOIN LATERAL (
    SELECT sequence, quotes, route FROM order_quotes WHERE order_id = o.id ORDER BY sequence DESC LIMIT 1
) AS q ON true
WHERE o.id = ANY(%(ids)s::uuid[]);

-- name: get_quotes
-- Return the quotes of every attempt of orders.
SELECT order_id::text, sequence, quotes, route
FROM order_quotes
WHERE order_id = ANY(%(ids)s::uuid[]);

-- name: find_client_order
-- Return the id of the order with an account's client order id.
SELECT order_id::text
FROM client_orders
WHERE account = %(account)s AND client_order_id = %(client_order_id)s;

-- name: list_orders
-- Return a page of orders' ids, newest first, after a position: all of them, or those of a label.
SELECT (extract(epoch FROM o.created_at) * 1000000)::bigint AS created_us, o.id::text AS order_id
FROM orders AS o
WHERE /* include: matching */
    AND (%(venue)s::text IS NULL OR o.venue = %(venue)s)
    AND (%(statuses)s::text[] IS NULL OR o.status = ANY(%(statuses)s))
    AND o.created_at >= /* include: earliest */
    AND o.created_at < /* include: latest */
    AND (o.created_at, o.id) < /* include: position */
ORDER BY o.created_at DESC, o.id DESC
LIMIT %(limit)s;

-- name: list_orders_by_client_order_id
-- Return a page of the ids of orders whose client order ids match a pattern, newest first, after a position. A few are
-- sorted. Of many the newest are soon found in the order of time.
WITH few AS MATERIALIZED (
    SELECT o.created_at, o.id
    FROM orders AS o
    WHERE /* include: matching */
        AND (%(venue)s::text IS NULL OR o.venue = %(venue)s)
        AND (%(statuses)s::text[] IS NULL OR o.status = ANY(%(statuses)s))
        AND o.client_order_id LIKE %(client_order_id)s
        AND o.created_at >= /* include: earliest */
        AND o.created_at < /* include: latest */
        AND (o.created_at, o.id) < /* include: position */
    LIMIT %(few)s
),
many AS (
    SELECT o.created_at, o.id
    FROM orders AS o
    WHERE (SELECT count(*) FROM few) = %(few)s
        AND /* include: matching */
        AND (%(venue)s::text IS NULL OR o.venue = %(venue)s)
        AND (%(statuses)s::text[] IS NULL OR o.status = ANY(%(statuses)s))
        AND o.client_order_id LIKE %(client_order_id)s
        AND o.created_at >= /* include: earliest */
        AND o.created_at < /* include: latest */
        AND (o.created_at, o.id) < /* include: position */
    ORDER BY o.created_at DESC, o.id DESC
    LIMIT %(limit)s
)
SELECT (extract(epoch FROM found.created_at) * 1000000)::bigint AS created_us, found.id::text AS order_id
FROM (
    SELECT created_at, id FROM few WHERE (SELECT count(*) FROM few) < %(few)s
    UNION ALL
    TABLE many
) AS found
ORDER BY found.created_at DESC, found.id DESC
LIMIT %(limit)s;

-- name: list_orders_awaiting_approval
-- Return a page of the ids of orders that await approval, newest first, after a position.
SELECT (extract(epoch FROM p.created_at) * 1000000)::bigint AS created_us, p.order_id::text AS order_id
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
WHERE p.approve_by IS NOT NULL
    AND (%(account)s::text IS NULL OR p.account = %(account)s)
    AND /* include: matching */
    AND (%(venue)s::text IS NULL OR o.venue = %(venue)s)
    AND (%(statuses)s::text[] IS NULL OR o.status = ANY(%(statuses)s))
    AND (%(client_order_id)s::text IS NULL OR o.client_order_id LIKE %(client_order_id)s)
    AND p.created_at >= /* include: earliest */
    AND p.created_at < /* include: latest */
    AND (p.created_at, p.order_id) < /* include: position */
ORDER BY p.created_at DESC, p.order_id DESC
LIMIT %(limit)s;

-- name: list_orders_by_status
-- Return a page of the ids of orders in some statuses, newest first, after a position. Each final status is read by
-- itself, in the order of the index.
WITH unfinished AS (
    SELECT p.created_at, p.order_id
    FROM open_orders AS p
    JOIN orders AS o ON o.id = p.order_id
    WHERE %(unfinished)s
        AND o.status = ANY(%(statuses)s::text[])
        AND (%(account)s::text IS NULL OR p.account = %(account)s)
        AND p.created_at >= /* include: earliest */
        AND p.created_at < /* include: latest */
        AND (p.created_at, p.order_id) < /* include: position */
    ORDER BY p.created_at DESC, p.order_id DESC
    LIMIT %(limit)s
),
finished AS (
    SELECT found.created_at, found.order_id
    FROM unnest(%(statuses)s::text[]) AS wanted (status)
    CROSS JOIN LATERAL (
        SELECT f.created_at, f.order_id
        FROM finished_orders AS f
        WHERE f.status = wanted.status
            AND (%(account)s::text IS NULL OR f.account = %(account)s)
            AND f.created_at >= /* include: earliest */
            AND f.created_at < /* include: latest */
            AND (f.created_at, f.order_id) < /* include: position */
        ORDER BY f.created_at DESC, f.order_id DESC
        LIMIT %(limit)s
    ) AS found
)
/* include: newest */;

-- name: list_orders_by_kind
-- Return a page of the ids of orders of a type, a token or a DEX, newest first, after a position. Each kind is read by
-- itself, in the order of an index, and only if its newest order is among the newest of all kinds: of the others none
-- can be on the page.
WITH kinds AS MATERIALIZED (
    SELECT k.id, k.status IS NOT NULL AS ended
    FROM order_kinds AS k
    WHERE (%(account)s::text IS NULL OR k.account = %(account)s)
        AND (%(order_type)s::text IS NULL OR k.order_type = %(order_type)s)
        AND (%(token_in)s::text IS NULL OR k.token_in = %(token_in)s)
        AND (%(token_out)s::text IS NULL OR k.token_out = %(token_out)s)
        AND (k.status IS NULL OR %(statuses)s::text[] IS NULL OR k.status = ANY(%(statuses)s))
        AND (k.status IS NULL OR %(venue)s::text IS NULL OR k.venue = %(venue)s)
),
unfinished AS (
    SELECT found.created_at, found.order_id
    FROM kinds AS k
    CROSS JOIN LATERAL (
        SELECT p.created_at, p.order_id
        FROM open_orders AS p
        JOIN orders AS o ON o.id = p.order_id
        WHERE p.kind = k.id
            AND (%(statuses)s::text[] IS NULL OR o.status = ANY(%(statuses)s))
            AND (%(venue)s::text IS NULL OR o.venue = %(venue)s)
            AND p.created_at >= /* include: earliest */
            AND p.created_at < /* include: latest */
            AND (p.created_at, p.order_id) < /* include: position */
        ORDER BY p.created_at DESC, p.order_id DESC
        LIMIT %(limit)s
    ) AS found
    WHERE %(unfinished)s AND NOT k.ended
),
heads AS MATERIALIZED (
    SELECT k.id, newest.created_at, newest.order_id
    FROM kinds AS k
    CROSS JOIN LATERAL (
        SELECT f.created_at, f.order_id
        FROM finished_orders AS f
        WHERE f.kind = k.id
            AND f.created_at >= /* include: earliest */
            AND f.created_at < /* include: latest */
            AND (f.created_at, f.order_id) < /* include: position */
        ORDER BY f.created_at DESC, f.order_id DESC
        LIMIT 1
    ) AS newest
    WHERE k.ended
    ORDER BY newest.created_at DESC, newest.order_id DESC
    LIMIT %(limit)s
),
finished AS (
    SELECT found.created_at, found.order_id
    FROM heads AS h
    CROSS JOIN LATERAL (
        SELECT f.created_at, f.order_id
        FROM finished_orders AS f
        WHERE f.kind = h.id
            AND f.created_at >= /* include: earliest */
            AND (f.created_at, f.order_id) <= (h.created_at, h.order_id)
        ORDER BY f.created_at DESC, f.order_id DESC
        LIMIT %(limit)s
    ) AS found
)
/* include: newest */;

-- fragment: newest
-- The newest of a list's unfinished and finished orders. They are read by one statement, so that an order which ends
-- meanwhile is neither missing nor listed twice.
SELECT (extract(epoch FROM listed.created_at) * 1000000)::bigint AS created_us, listed.order_id::text AS order_id
FROM (TABLE unfinished UNION ALL TABLE finished) AS listed
ORDER BY listed.created_at DESC, listed.order_id DESC
LIMIT %(limit)s

-- fragment: matching
-- Whether an order is an account's, of a type, sells and buys these tokens, and has a label; null: any.
(%(account)s::text IS NULL OR o.account = %(account)s)
    AND (%(order_type)s::text IS NULL OR o.order_type = %(order_type)s)
    AND (%(token_in)s::text IS NULL OR o.token_in = %(token_in)s)
    AND (%(token_out)s::text IS NULL OR o.token_out = %(token_out)s)
    AND (%(label)s::text IS NULL OR o.label = %(label)s)

-- fragment: earliest
-- The time from which on orders are listed; null: any.
coalesce(%(created_from)s::timestamptz, '-infinity')

-- fragment: latest
-- The time before which orders are listed; null: any.
coalesce(%(created_to)s::timestamptz, 'infinity')

-- fragment: position
-- The position after which a page begins; null: the first page.
(
    coalesce('epoch'::timestamptz + %(before_us)s * interval '1 microsecond', 'infinity'),
    coalesce(%(before_id)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)

-- name: get_versions
-- Return the versions of orders, for watchers.
SELECT id::text, version FROM orders WHERE id = ANY(%(ids)s::uuid[]);

-- name: get_latest_transaction
-- Return the last signed transaction of an order.
SELECT id, venue, raw, maximum_in, minimum_out, last_valid_slot AS last_valid_height, blockhash_slot
FROM transactions
WHERE order_id = %(order_id)s
ORDER BY sequence DESC
LIMIT 1;
