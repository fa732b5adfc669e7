-- Ended orders for tests/bench/lists.py: those with the numbers from first to last. What each of them is follows from
-- its number, so that every run makes the same ones. A chance is compared with a share of a thousand.
WITH chances AS (
    SELECT
        n,
        ('x' || substr(digest, 1, 4))::bit(16)::integer %% 1000 AS of_account,
        ('x' || substr(digest, 5, 4))::bit(16)::integer %% 1000 AS of_type,
        ('x' || substr(digest, 9, 4))::bit(16)::integer AS of_pair,
        ('x' || substr(digest, 13, 4))::bit(16)::integer %% 1000 AS of_status,
        ('x' || substr(digest, 17, 4))::bit(16)::integer AS of_route,
        ('x' || substr(digest, 21, 4))::bit(16)::integer %% 1000 AS of_label,
        ('x' || substr(digest, 25, 4))::bit(16)::integer %% 1000 AS of_name
    FROM generate_series(%(first)s, %(last)s) AS n
    CROSS JOIN LATERAL md5(n::text) AS digest
),
drawn AS (
    SELECT
        n,
        now() - (%(orders)s - n) * (interval '60 days' / %(orders)s) AS created_at,
        CASE WHEN of_account < 700 THEN 'default' WHEN of_account < 999 THEN 'desk' ELSE 'rare' END AS account,
        CASE WHEN of_type < 800 THEN 'market' WHEN of_type < 998 THEN 'limit' ELSE 'sniper' END AS order_type,
        (ARRAY['SOL', 'SOL', 'SOL', 'USDC', 'JUP', 'RAY'])[1 + of_pair %% 6] AS token_in,
        (ARRAY['USDC', 'USDC', 'USDC', 'SOL', 'SOL', 'BONK'])[1 + of_pair %% 6] AS token_out,
        CASE
            WHEN of_status < 850 THEN 'confirmed'
            WHEN of_status < 930 THEN 'failed'
            WHEN of_status < 999 THEN 'cancelled'
            ELSE 'expired'
        END AS status,
        (ARRAY['raydium', 'raydium', 'meteora', 'multiple'])[1 + of_route %% 4] AS routed,
        CASE WHEN of_label < 400 THEN 'grid ' || of_label %% 20 END AS label,
        CASE WHEN of_name < 700 THEN 'bot-' || of_name %% 7 || '-' || n END AS client_order_id
    FROM chances
),
made AS (
    SELECT
        d.*, (lpad(to_hex(floor(extract(epoch FROM created_at) * 1000)::bigint), 12, '0')
            || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
        -- A cancelled or expired order had no route, and no sniper order was cancelled.
        CASE WHEN status IN ('confirmed', 'failed') OR order_type = 'sniper' THEN routed END AS venue,
        CASE WHEN order_type = 'sniper' THEN 'confirmed' ELSE status END AS ended
    FROM drawn AS d
),
stored AS (
    INSERT INTO orders (
        id, account, client_order_id, label, order_type, token_in, token_out, decimals_in, decimals_out, swap_mode,
        amount, amount_text, slippage_bps, time_in_force, limit_price, limit_out, sniper_conditions, status, version,
        status_history, created_at, updated_at, attempts, quoted_in, quoted_out, amount_in, amount_out, tx_hash, venue
    )
    SELECT
        id, account, client_order_id, label, order_type, token_in, token_out, 9, 6, 'exactIn', 1500000000, '1.5', 100,
        CASE WHEN order_type = 'limit' THEN 'GTC' END, CASE WHEN order_type = 'limit' THEN '150' END,
        CASE WHEN order_type = 'limit' THEN 225000000 END,
        CASE WHEN order_type = 'sniper' THEN '{"price": {"above": "1"}}'::jsonb END, ended, 5,
        jsonb_build_array(
            jsonb_build_object('sequence', 1, 'status', 'pending', 'timestamp', rfc3339(created_at), 'writeId', n),
            jsonb_build_object(
                'sequence', 2, 'status', 'routing', 'timestamp', rfc3339(created_at), 'attempt', 1, 'writeId', n
            ),
            jsonb_strip_nulls(jsonb_build_object(
                'sequence', 3, 'status', 'building', 'timestamp', rfc3339(created_at), 'venue', venue, 'writeId', n
            )),
            jsonb_build_object(
                'sequence', 4, 'status', 'submitted', 'timestamp', rfc3339(created_at), 'txHash', 'signature-' || n,
                'quotedIn', '1.5', 'quotedOut', '225.5', 'maximumIn', '1.5', 'minimumOut', '223.245', 'writeId', n
            ),
            jsonb_build_object(
                'sequence', 5, 'status', ended, 'timestamp', rfc3339(created_at), 'reason', 'slippage_exceeded',
                'detail', 'Less than the minimum.', 'writeId', n
            )
        ),
        created_at, created_at, 1, 1500000000, 225500000,
        CASE WHEN ended = 'confirmed' THEN 1500000000 END, CASE WHEN ended = 'confirmed' THEN 225500000 END,
        CASE WHEN ended = 'confirmed' THEN 'signature-' || n END, venue
    FROM made
),
quoted AS (
    INSERT INTO order_quotes (order_id, sequence, quotes)
    SELECT
        id, 3, jsonb_build_array(jsonb_build_object(
            'venue', routed, 'poolId', routed || ':' || token_in, 'amountIn', '1.5', 'amountOut', '225.5',
            'fees', jsonb_build_array(), 'priceImpact', '0.0001', 'chosen', true
        ))
    FROM made
    WHERE venue IS NOT NULL
),
named AS (
    INSERT INTO client_orders (account, client_order_id, order_id)
    SELECT account, client_order_id, id FROM made WHERE client_order_id IS NOT NULL
),
kinds AS (
    INSERT INTO order_kinds (id, account, order_type, token_in, token_out, status, venue)
    SELECT DISTINCT
        order_kind(account, order_type, token_in, token_out, ended, venue), account, order_type, token_in, token_out,
        ended, venue
    FROM made
    ON CONFLICT DO NOTHING
)
INSERT INTO finished_orders (account, status, created_at, order_id, kind)
SELECT account, ended, created_at, id, order_kind(account, order_type, token_in, token_out, ended, venue) FROM made;
