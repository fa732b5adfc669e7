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
-- Return a page of all orders' ids, newest first, after a position.
SELECT (extract(epoch FROM o.created_at) * 1000000)::bigint AS created_us, o.id::text AS order_id
FROM orders AS o
WHERE /* include: matching */
    AND /* include: listed */
    AND o.created_at >= /* include: earliest */
    AND (o.created_at, o.id) < /* include: position */
ORDER BY o.created_at DESC, o.id DESC
LIMIT %(limit)s;

-- name: list_open_orders
-- Return a page of unfinished orders' ids in some statuses, all or those that await approval, newest first, after a
-- position.
SELECT (extract(epoch FROM p.created_at) * 1000000)::bigint AS created_us, p.order_id::text
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id
WHERE o.status = ANY(%(statuses)s)
    AND (NOT %(awaiting_approval)s OR p.approve_by IS NOT NULL)
    AND (%(account)s::text IS NULL OR p.account = %(account)s)
    AND /* include: matching */
    AND /* include: listed */
    AND p.created_at >= /* include: earliest */
    AND (p.created_at, p.order_id) < /* include: position */
ORDER BY p.created_at DESC, p.order_id DESC
LIMIT %(limit)s;

-- name: list_finished_orders
-- Return a page of ended orders' ids in some statuses, newest first, after a position. Each status is read by itself,
-- in the order of the index.
SELECT (extract(epoch FROM found.created_at) * 1000000)::bigint AS created_us, found.order_id::text
FROM unnest(%(statuses)s::text[]) AS wanted (status)
CROSS JOIN LATERAL (
    SELECT f.created_at, f.order_id
    FROM finished_orders AS f
    JOIN orders AS o ON o.id = f.order_id
    WHERE f.status = wanted.status
        AND (%(account)s::text IS NULL OR f.account = %(account)s)
        AND /* include: matching */
        AND /* include: listed */
        AND f.created_at >= /* include: earliest */
        AND (f.created_at, f.order_id) < /* include: position */
    ORDER BY f.created_at DESC, f.order_id DESC
    LIMIT %(limit)s
) AS found
ORDER BY found.created_at DESC, found.order_id DESC
LIMIT %(limit)s;

-- fragment: matching
-- Whether an order is an account's, of a type, sells and buys these tokens, and has a label; null: any.
(%(account)s::text IS NULL OR o.account = %(account)s)
    AND (%(order_type)s::text IS NULL OR o.order_type = %(order_type)s)
    AND (%(token_in)s::text IS NULL OR o.token_in = %(token_in)s)
    AND (%(token_out)s::text IS NULL OR o.token_out = %(token_out)s)
    AND (%(label)s::text IS NULL OR o.label = %(label)s)

-- fragment: listed
-- Whether an order was placed before a time, and its client order id matches a pattern; null: any.
(%(created_to)s::timestamptz IS NULL OR o.created_at < %(created_to)s::timestamptz)
    AND (%(client_order_id)s::text IS NULL OR o.client_order_id LIKE %(client_order_id)s)

-- fragment: earliest
-- The time from which on orders are listed; null: any.
coalesce(%(created_from)s::timestamptz, '-infinity')

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
SELECT id, venue, raw, maximum_in, minimum_out, last_valid_slot
FROM transactions
WHERE order_id = %(order_id)s
ORDER BY sequence DESC
LIMIT 1;
