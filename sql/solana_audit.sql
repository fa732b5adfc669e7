-- What the audit compares with a Solana chain. Orders of an earlier venue are on another chain, or of another wallet.

-- name: solana_audit_venue
-- Return the venue of this database; nothing before the first start.
SELECT kind, market, wallet FROM venue_identity;

-- name: solana_audit_opening
-- Return the opening balances, by mint.
SELECT b.mint, b.token, b.account, b.slot, b.amount
FROM opening_balances AS b
JOIN venue_identity AS v ON v.since = b.since
ORDER BY b.mint;

-- name: solana_audit_orders
-- Return a page of the orders that have transactions, or are confirmed, with all of their transactions; since: only
-- those that have changed from this time on.
SELECT
    o.id::text AS id, o.status, o.token_in, o.token_out, o.amount_in, o.amount_out, o.tx_hash, o.residue,
    floor(extract(epoch FROM o.expires_at))::bigint AS expires_at,
    coalesce(t.transactions, '[]') AS transactions
FROM orders AS o
LEFT JOIN LATERAL (
    SELECT jsonb_agg(
        jsonb_build_object(
            'id', s.id, 'raw', encode(s.raw, 'base64'), 'last_valid_height', s.last_valid_slot,
            'blockhash_slot', s.blockhash_slot, 'slot', s.slot, 'network_fee', s.network_fee, 'tip', s.tip,
            'rent', s.rent
        )
        ORDER BY s.sequence
    ) AS transactions
    FROM transactions AS s
    WHERE s.order_id = o.id
) AS t ON true
WHERE (%(after)s::uuid IS NULL OR o.id > %(after)s::uuid)
    AND (%(since)s::timestamptz IS NULL OR o.updated_at >= %(since)s::timestamptz)
    AND o.created_at >= (SELECT since FROM venue_identity)
    AND (t.transactions IS NOT NULL OR o.status = 'confirmed')
ORDER BY o.id
LIMIT %(limit)s;

-- name: solana_audit_known
-- Return which of these signatures are of transactions of orders.
SELECT id FROM transactions WHERE id = ANY(%(ids)s::text[]);
