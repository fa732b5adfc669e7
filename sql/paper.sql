-- The paper venue's own statements: none touches the engine's tables.

-- name: paper_found_market
-- Make the market with a seed, unless there is one; returns the seed that it has.
WITH founded AS (
    INSERT INTO paper_market (seed) VALUES (%(seed)s) ON CONFLICT DO NOTHING RETURNING seed
)
SELECT seed FROM founded
UNION ALL
SELECT seed FROM paper_market;

-- name: paper_open_pools
-- Make the pools that do not exist yet.
INSERT INTO paper_pools (
    id, dex, token_a, token_b, fee_ppm, reserve_a, reserve_b, home_a, home_b
)
SELECT id, dex, token_a, token_b, fee_ppm, reserve_a, reserve_b, reserve_a, reserve_b
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
    id text, dex text, token_a text, token_b text, fee_ppm integer, reserve_a numeric,
    reserve_b numeric
)
ON CONFLICT DO NOTHING;

-- name: paper_get_pools
-- Every pool as it is now.
SELECT id, dex, token_a, token_b, fee_ppm, reserve_a, reserve_b, home_a, home_b, version
FROM paper_pools
ORDER BY id;

-- name: paper_submit
-- Take in transactions that can still land; those that are here already stay as they are.
INSERT INTO paper_transactions (
    signature, order_id, attempt, venue, pool_id, token_in, token_out, status, amount_in,
    minimum_out, last_valid_slot, submitted_at, lands_at
)
SELECT
    signature, order_id, attempt, venue, pool_id, token_in, token_out, 'pending', amount_in,
    minimum_out, last_valid_slot, now(), now() + delay_ms * interval '1 millisecond'
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
    signature text, order_id uuid, attempt integer, venue text, pool_id text, token_in text,
    token_out text, amount_in numeric, minimum_out numeric, last_valid_slot bigint, delay_ms integer
)
WHERE last_valid_slot >= paper_slot(%(slot_ms)s)
ON CONFLICT DO NOTHING
RETURNING signature;

-- name: paper_refuse
-- Note that a transaction is refused, under its own key: it can land no more.
INSERT INTO paper_transactions (
    signature, order_id, attempt, venue, pool_id, token_in, token_out, status, amount_in, minimum_out,
    failure, last_valid_slot, submitted_at, settled_at
)
VALUES (
    %(signature)s, %(order_id)s, %(attempt)s, %(venue)s, %(pool_id)s, %(token_in)s, %(token_out)s,
    'failed', %(amount_in)s, %(minimum_out)s, %(failure)s, %(last_valid_slot)s, now(), now()
)
ON CONFLICT DO NOTHING;

-- name: paper_ask
-- What became of transactions. One that can no longer land is made expired first, known or not, under
-- its own key: a submit that is still on its way finds the row, so expired is a proof.
WITH asked AS (
    SELECT *
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
        signature text, order_id uuid, attempt integer, last_valid_slot bigint
    )
),
never_seen AS (
    INSERT INTO paper_transactions (
        signature, order_id, attempt, status, last_valid_slot, submitted_at, settled_at
    )
    SELECT signature, order_id, attempt, 'expired', last_valid_slot, now(), now()
    FROM asked
    WHERE last_valid_slot < paper_slot(%(slot_ms)s)
    ON CONFLICT DO NOTHING
    RETURNING signature, status, amount_out, failure
),
too_late AS (
    UPDATE paper_transactions AS t
    SET status = 'expired', settled_at = now()
    FROM asked AS a
    WHERE t.signature = a.signature
        AND t.status = 'pending'
        AND t.last_valid_slot < paper_slot(%(slot_ms)s)
    RETURNING t.signature, t.status, t.amount_out, t.failure
)
SELECT * FROM never_seen
UNION ALL
SELECT * FROM too_late
UNION ALL
SELECT t.signature, t.status, t.amount_out, t.failure
FROM asked AS a
JOIN paper_transactions AS t ON t.signature = a.signature
WHERE t.signature NOT IN (SELECT signature FROM too_late);

-- name: paper_find_stragglers
-- Transactions that should have landed a while ago: their process is gone.
SELECT
    signature, order_id::text, attempt, venue, pool_id, token_in, token_out, amount_in, minimum_out,
    last_valid_slot
FROM paper_transactions
WHERE status = 'pending' AND lands_at < now() - %(late_ms)s * interval '1 millisecond'
ORDER BY lands_at, signature
LIMIT 500;

-- name: paper_settle
-- Execute transactions: the pools move, the transactions land or fail, and the market's own trades are
-- booked. A pool moves only if it is still as its trades were computed on, and only if all of them are
-- still pending and valid; the pools that moved are returned.
WITH results AS (
    SELECT *
    FROM jsonb_to_recordset(%(results)s::jsonb) AS row (
        signature text, pool_id text, status text, amount_out numeric, failure text
    )
),
executable AS (
    SELECT t.signature, t.pool_id
    FROM paper_transactions AS t
    JOIN results AS r ON r.signature = t.signature
    WHERE t.status = 'pending' AND t.last_valid_slot >= paper_slot(%(slot_ms)s)
    ORDER BY t.signature
    FOR UPDATE OF t
),
moved AS (
    UPDATE paper_pools AS p
    SET reserve_a = w.reserve_a, reserve_b = w.reserve_b, version = w.version
    FROM jsonb_to_recordset(%(pools)s::jsonb) AS w (
        id text, seen_version bigint, version bigint, reserve_a numeric, reserve_b numeric
    )
    WHERE p.id = w.id
        AND p.version = w.seen_version
        AND NOT EXISTS (
            SELECT 1
            FROM results AS r
            WHERE r.pool_id = p.id AND r.signature NOT IN (SELECT signature FROM executable)
        )
    RETURNING p.id
),
settled AS (
    UPDATE paper_transactions AS t
    SET status = r.status, amount_out = r.amount_out, failure = r.failure, settled_at = now()
    FROM results AS r
    JOIN moved AS m ON m.id = r.pool_id
    WHERE t.signature = r.signature
),
restored AS (
    INSERT INTO paper_transactions (
        signature, venue, pool_id, token_in, token_out, status, amount_in, amount_out, minimum_out,
        submitted_at, settled_at
    )
    SELECT
        w.signature, w.venue, w.pool_id, w.token_in, w.token_out, 'landed', w.amount_in, w.amount_out,
        1, now(), now()
    FROM jsonb_to_recordset(%(own_trades)s::jsonb) AS w (
        signature text, venue text, pool_id text, token_in text, token_out text, amount_in numeric,
        amount_out numeric
    )
    JOIN moved AS m ON m.id = w.pool_id
)
SELECT id FROM moved;
