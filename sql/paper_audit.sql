-- The audit of the paper market's ledger. One statement, so that orders and ledger are read from one snapshot.

-- name: paper_audit
-- Return every violation: the order or token, and a description. A landed transaction whose order is still submitted
-- is in progress and not a violation.
WITH landed AS (
    SELECT
        order_id, count(*) AS times, min(signature) AS signature, min(amount_in) AS amount_in,
        min(amount_out) AS amount_out, min(residue::text)::jsonb AS residue, min(landed_slot) AS slot,
        max(settled_at) AS at
    FROM paper_transactions
    WHERE status = 'landed'
    GROUP BY order_id
)
SELECT order_id::text AS subject, 'landed ' || times || ' times' AS what FROM landed WHERE times > 1
UNION ALL
SELECT l.order_id::text, 'landed, and there is no such order'
FROM landed AS l
WHERE NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.id = l.order_id)
UNION ALL
-- Orders of an earlier venue have landed elsewhere.
SELECT o.id::text, 'confirmed, and has not landed'
FROM orders AS o
WHERE o.status = 'confirmed'
    AND o.created_at >= coalesce(
        (SELECT CASE kind WHEN 'paper' THEN since ELSE 'infinity' END FROM venue_identity), '-infinity'
    )
    AND NOT EXISTS (SELECT 1 FROM landed AS l WHERE l.order_id = o.id)
UNION ALL
SELECT o.id::text, 'confirmed with other amounts, or by another transaction, than the ledger has'
FROM orders AS o
JOIN landed AS l ON l.order_id = o.id
WHERE o.status = 'confirmed'
    AND (o.tx_hash, o.amount_in, o.amount_out, o.residue)
        IS DISTINCT FROM (l.signature, l.amount_in, l.amount_out, l.residue)
UNION ALL
SELECT o.id::text, 'confirmed with another landing than the ledger has'
FROM orders AS o
JOIN landed AS l ON l.order_id = o.id
WHERE o.status_history -> -1 ? 'landedAt'
    AND (o.status_history -> -1 -> 'landedSlot', (o.status_history -> -1 ->> 'landedAt')::timestamptz)
        IS DISTINCT FROM (to_jsonb(l.slot), l.at)
UNION ALL
-- An order can be amended only before it is sent, so its current expiry was in effect when it landed.
SELECT o.id::text, 'landed ' || extract(epoch FROM l.at - o.expires_at) || ' s after its time'
FROM orders AS o
JOIN landed AS l ON l.order_id = o.id
WHERE l.at > o.expires_at
UNION ALL
SELECT o.id::text, o.status || ', and has landed'
FROM orders AS o
JOIN landed AS l ON l.order_id = o.id
WHERE o.status NOT IN ('confirmed', 'submitted')
UNION ALL
SELECT o.id::text, o.status || ', and a transaction of it may still land'
FROM paper_transactions AS t
JOIN orders AS o ON o.id = t.order_id
WHERE t.status = 'pending' AND o.status <> 'submitted'
UNION ALL
-- Conservation: the balances of pools and wallets equal their funding.
SELECT token, sum(gain) || ' base units of it came from nowhere'
FROM (
    SELECT token_a AS token, vault_a - initial_a AS gain FROM paper_pools
    UNION ALL
    SELECT token_b, vault_b - initial_b FROM paper_pools
    UNION ALL
    SELECT token, balance - funded FROM paper_wallets
) AS gains
GROUP BY token
HAVING sum(gain) <> 0;

-- name: paper_count_landed
-- Count the transactions that have landed.
SELECT count(*) FROM paper_transactions WHERE status = 'landed';
