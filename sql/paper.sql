-- The paper venue's statements. None uses the engine's tables.

-- name: paper_create_market
-- Create the market with a seed and a slot length, unless it exists; returns its actual values.
INSERT INTO paper_market AS m (seed, slot_ms)
VALUES (%(seed)s, %(slot_ms)s)
ON CONFLICT (only_row) DO UPDATE SET seed = m.seed
RETURNING seed, slot_ms;

-- name: paper_open_pools
-- Create the pools that do not exist yet; returns their ids.
INSERT INTO paper_pools (
    id, dex, program, token_a, token_b, state, vault_a, vault_b, initial_a, initial_b, opened_slot
)
SELECT
    id, dex, program, token_a, token_b, state, vault_a, vault_b, vault_a, vault_b, opened_slot
FROM jsonb_to_recordset(%(pools)s::jsonb) AS row (
    id text, dex text, program text, token_a text, token_b text, state jsonb, vault_a numeric,
    vault_b numeric, opened_slot bigint
)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: paper_fund_wallets
-- Create the wallets that do not exist, and adjust those whose configured funding has changed, as far as their
-- balance allows. Only the leader may do it.
WITH led AS (
    SELECT 1 FROM paper_leader WHERE epoch = %(epoch)s FOR UPDATE
)
INSERT INTO paper_wallets AS w (owner, token, balance, funded)
SELECT owner, token, funded, funded
FROM jsonb_to_recordset(%(wallets)s::jsonb) AS row (owner text, token text, funded numeric)
WHERE EXISTS (SELECT 1 FROM led)
ON CONFLICT (owner, token) DO UPDATE
SET
    balance = least(w.balance + excluded.funded - w.funded, 18446744073709551615),
    funded = w.funded + least(
        excluded.funded - w.funded, 18446744073709551615 - w.balance
    )
WHERE excluded.funded <> w.funded AND w.balance + excluded.funded - w.funded >= 0;

-- name: paper_get_pools
-- Every pool, ordered by id, and the commit that this state belongs to; the state is null for pools that have not
-- changed since an earlier commit.
SELECT
    l.epoch, l.sequence, p.id, p.dex, p.program, p.token_a, p.token_b,
    CASE WHEN p.sequence > %(since)s THEN p.state END AS state, p.vault_a, p.vault_b, p.opened_slot, p.origin
FROM paper_leader AS l
CROSS JOIN paper_pools AS p
ORDER BY p.id COLLATE "C";

-- name: paper_get_wallets
-- All balances, without the net gain or loss of delisted pools.
SELECT owner, token, balance FROM paper_wallets WHERE owner <> 'delisted';

-- name: paper_get_balances
-- The balances of a wallet: of some tokens, or a page of all, by token. In flight is the most that transactions which
-- can still land may take; only the user has any.
WITH page AS (
    SELECT token, balance
    FROM paper_wallets
    WHERE owner = %(owner)s
        AND (%(tokens)s::text[] IS NULL OR token = ANY(%(tokens)s::text[]))
        AND (%(after)s::text IS NULL OR token > %(after)s::text)
    ORDER BY token
    LIMIT %(limit)s
),
pending AS (
    SELECT token_in AS token, sum(maximum_in) AS maximum_in
    FROM paper_transactions
    WHERE status = 'pending' AND last_valid_slot >= paper_slot(%(slot_ms)s)
    GROUP BY token_in
)
SELECT p.token, n.mint, n.decimals, p.balance, coalesce(t.maximum_in, 0) AS in_flight
FROM page AS p
LEFT JOIN pending AS t ON t.token = p.token
LEFT JOIN paper_tokens AS n ON n.symbol = p.token
ORDER BY p.token;

-- name: paper_lead
-- Become the market's leader, if the lease is free or has expired, or was renewed in the future, by a clock that has
-- jumped back since. Returns the new epoch; or, while another leads, the seconds until its lease expires unless it
-- is renewed.
WITH won AS (
    UPDATE paper_leader
    SET leader = %(leader)s, epoch = epoch + 1, renewed_at = now()
    WHERE leader IS NULL
        OR leader = %(leader)s
        OR %(alone)s
        OR NOT renewed_at BETWEEN now() - %(lease_ms)s * interval '1 millisecond'
            AND now() + %(lease_ms)s * interval '1 millisecond'
    RETURNING epoch, sequence
)
SELECT
    w.epoch, w.sequence,
    extract(
        epoch FROM greatest(l.renewed_at + %(lease_ms)s * interval '1 millisecond', now()) - now()
    )::double precision AS left_s
FROM paper_leader AS l
LEFT JOIN won AS w ON true;

-- name: paper_renew
-- Renew the lease; returns nothing if the epoch is over.
UPDATE paper_leader SET renewed_at = now() WHERE epoch = %(epoch)s RETURNING sequence;

-- name: paper_resign
-- Release the lease, so that another process can lead at once.
UPDATE paper_leader SET leader = NULL WHERE epoch = %(epoch)s;

-- name: paper_read_leader
-- The current epoch and commit number of the market.
SELECT epoch, sequence FROM paper_leader;

-- name: paper_submit
-- Store transactions that can still land; existing ones stay unchanged. A transaction with a delay lands in the
-- first slot that begins after it.
INSERT INTO paper_transactions (
    signature, order_id, attempt, token_in, token_out, status, maximum_in, minimum_out,
    last_valid_slot, message, submitted_at, lands_slot
)
SELECT
    signature, order_id, attempt, token_in, token_out, 'pending', maximum_in, minimum_out,
    last_valid_slot, message, now(),
    paper_slot(%(slot_ms)s) + CASE
        WHEN delay_ms = 0 THEN 0
        ELSE 1 + floor(
            (extract(epoch FROM now()) * 1000 %% %(slot_ms)s + delay_ms) / %(slot_ms)s
        )::bigint
    END
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
    signature text, order_id uuid, attempt integer, token_in text, token_out text,
    maximum_in numeric, minimum_out numeric, last_valid_slot bigint, message text, delay_ms integer
)
WHERE last_valid_slot >= paper_slot(%(slot_ms)s)
ON CONFLICT DO NOTHING
RETURNING signature, lands_slot;

-- name: paper_refuse
-- Record a rejected transaction under its own key, so that it can never land.
INSERT INTO paper_transactions (
    signature, order_id, attempt, status, failure, last_valid_slot, submitted_at, settled_at
)
VALUES (
    %(signature)s, %(order_id)s, %(attempt)s, 'failed', %(failure)s, %(last_valid_slot)s, now(), now()
)
ON CONFLICT DO NOTHING;

-- name: paper_get_statuses
-- The outcomes of transactions. One that can no longer land is first recorded as expired, known or not, under its
-- own key: a submission still in flight conflicts with the row, so expired is a proof.
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
    RETURNING
        signature, status, amount_in, amount_out, failure, NULL::bigint AS landed_slot, NULL::text AS settled_at,
        residue
),
too_late AS (
    UPDATE paper_transactions AS t
    SET status = 'expired', settled_at = now()
    FROM asked AS a
    WHERE t.signature = a.signature
        AND t.status = 'pending'
        AND t.last_valid_slot < paper_slot(%(slot_ms)s)
    RETURNING t.signature, t.status, t.amount_in, t.amount_out, t.failure, NULL::bigint, NULL::text, t.residue
)
SELECT * FROM never_seen
UNION ALL
SELECT * FROM too_late
UNION ALL
SELECT
    t.signature, t.status, t.amount_in, t.amount_out, t.failure, t.landed_slot, rfc3339(t.settled_at), t.residue
FROM asked AS a
JOIN paper_transactions AS t ON t.signature = a.signature
WHERE t.signature NOT IN (SELECT signature FROM too_late);

-- name: paper_find_pending
-- Transactions that wait to be executed and land in a slot or later, in landing order. While another transaction
-- holds back what may be vacuumed, the index keeps an entry of each one that has landed: a later slot skips them.
SELECT signature, message, lands_slot
FROM paper_transactions
WHERE status = 'pending' AND lands_slot >= %(since_slot)s
ORDER BY lands_slot, submitted_at, signature
LIMIT %(most)s;

-- name: paper_settle
-- Commit the results of a group of transactions, of commands and of the market's own traders, if the epoch is
-- still the leader's and the whole group is still pending and valid; otherwise change nothing. Returns the
-- commit's number, and the slot and the time in which the group landed.
WITH results AS (
    SELECT *
    FROM jsonb_to_recordset(%(results)s::jsonb) AS row (
        signature text, status text, amount_in numeric, amount_out numeric, failure text, residue jsonb
    )
),
executable AS (
    SELECT t.signature
    FROM paper_transactions AS t
    JOIN results AS r ON r.signature = t.signature
    WHERE t.status = 'pending' AND t.last_valid_slot >= paper_slot(%(slot_ms)s)
    ORDER BY t.signature
    FOR UPDATE OF t
),
answers AS (
    SELECT * FROM jsonb_to_recordset(%(answers)s::jsonb) AS row (id uuid, answer text)
),
waiting AS (
    SELECT c.id
    FROM paper_commands AS c
    JOIN answers AS a ON a.id = c.id
    WHERE c.answer IS NULL
    ORDER BY c.id
    FOR UPDATE OF c
),
led AS (
    UPDATE paper_leader
    SET sequence = sequence + 1, renewed_at = now()
    WHERE epoch = %(epoch)s
        AND (SELECT count(*) FROM executable) = (SELECT count(*) FROM results)
        AND (SELECT count(*) FROM waiting) = (SELECT count(*) FROM answers)
    RETURNING sequence
),
answered AS (
    UPDATE paper_commands AS c
    SET answer = a.answer, answered_at = now()
    FROM answers AS a
    WHERE c.id = a.id AND EXISTS (SELECT 1 FROM led)
),
settled AS (
    UPDATE paper_transactions AS t
    SET
        status = r.status, amount_in = r.amount_in, amount_out = r.amount_out, failure = r.failure,
        residue = r.residue,
        landed_slot = CASE WHEN r.status = 'landed' THEN paper_slot(%(slot_ms)s) END, settled_at = now()
    FROM results AS r
    WHERE t.signature = r.signature AND EXISTS (SELECT 1 FROM led)
),
moved AS (
    UPDATE paper_pools AS p
    SET state = w.state, vault_a = w.vault_a, vault_b = w.vault_b, sequence = led.sequence
    FROM jsonb_to_recordset(%(pools)s::jsonb) AS w (
        id text, state jsonb, vault_a numeric, vault_b numeric
    )
    CROSS JOIN led
    WHERE p.id = w.id
),
listed AS (
    INSERT INTO paper_tokens (symbol, mint, decimals)
    SELECT symbol, mint, decimals
    FROM jsonb_to_recordset(%(tokens)s::jsonb) AS w (symbol text, mint text, decimals integer)
    WHERE EXISTS (SELECT 1 FROM led)
),
opened AS (
    INSERT INTO paper_pools (
        id, dex, program, token_a, token_b, state, vault_a, vault_b, initial_a, initial_b, opened_slot,
        origin, sequence
    )
    SELECT
        w.id, w.dex, w.program, w.token_a, w.token_b, w.state, w.vault_a, w.vault_b, w.vault_a, w.vault_b,
        w.opened_slot, w.origin, led.sequence
    FROM jsonb_to_recordset(%(opened)s::jsonb) AS w (
        id text, dex text, program text, token_a text, token_b text, state jsonb, vault_a numeric,
        vault_b numeric, opened_slot bigint, origin text
    )
    CROSS JOIN led
),
closed AS (
    DELETE FROM paper_pools AS p
    USING jsonb_to_recordset(%(closed)s::jsonb) AS w (id text, vault_a numeric, vault_b numeric), led
    WHERE p.id = w.id
    RETURNING p.token_a, p.token_b, w.vault_a - p.initial_a AS gain_a, w.vault_b - p.initial_b AS gain_b
),
gone AS (
    -- Record the closed pools' net gain or loss, so that the ledger balances without them.
    INSERT INTO paper_wallets AS h (owner, token, balance, funded)
    SELECT 'delisted', token, greatest(sum(gain), 0), greatest(-sum(gain), 0)
    FROM (
        SELECT token_a AS token, gain_a AS gain FROM closed
        UNION ALL
        SELECT token_b, gain_b FROM closed
    ) AS gains
    GROUP BY token
    HAVING sum(gain) <> 0
    ON CONFLICT (owner, token) DO UPDATE
    SET
        balance = greatest(h.balance - h.funded + excluded.balance - excluded.funded, 0),
        funded = greatest(h.funded - h.balance + excluded.funded - excluded.balance, 0)
),
traded AS (
    INSERT INTO paper_volumes AS v (pool_id, second, volume_a, volume_b)
    SELECT pool_id, second, volume_a, volume_b
    FROM jsonb_to_recordset(%(volumes)s::jsonb) AS w (
        pool_id text, second bigint, volume_a numeric, volume_b numeric
    )
    WHERE EXISTS (SELECT 1 FROM led)
    ON CONFLICT (second, pool_id) DO UPDATE
    SET volume_a = v.volume_a + excluded.volume_a, volume_b = v.volume_b + excluded.volume_b
),
paid AS (
    INSERT INTO paper_wallets (owner, token, balance, funded)
    SELECT owner, token, balance, 0
    FROM jsonb_to_recordset(%(wallets)s::jsonb) AS w (owner text, token text, balance numeric)
    WHERE EXISTS (SELECT 1 FROM led)
    ON CONFLICT (owner, token) DO UPDATE SET balance = excluded.balance
)
SELECT sequence, paper_slot(%(slot_ms)s) AS slot, rfc3339(now()) AS at FROM led;

-- name: paper_get_volumes
-- The recent volume per second of the existing pools, without that of an earlier pool of the same id.
SELECT v.pool_id, v.second, v.volume_a, v.volume_b
FROM paper_volumes AS v
JOIN paper_pools AS p ON p.id = v.pool_id
WHERE v.second >= greatest(
    extract(epoch FROM now())::bigint - %(seconds)s, p.opened_slot * %(slot_ms)s / 1000
);

-- name: paper_forget_volumes
-- Delete volumes that are older than any condition's window.
DELETE FROM paper_volumes WHERE second < extract(epoch FROM now())::bigint - %(seconds)s;

-- name: paper_add_commands
-- Store commands for the leader; existing ones stay unchanged.
INSERT INTO paper_commands (id, body)
SELECT id, body
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (id uuid, body jsonb)
ON CONFLICT DO NOTHING;

-- name: paper_get_waiting_commands
-- Commands that wait to be executed, the oldest first.
SELECT id::text, body FROM paper_commands WHERE answer IS NULL ORDER BY number LIMIT %(limit)s;

-- name: paper_get_answers
-- The answers of commands that have been executed.
SELECT id::text, answer FROM paper_commands WHERE id = ANY(%(ids)s::uuid[]) AND answer IS NOT NULL;

-- name: paper_forget_commands
-- Delete commands that were answered long ago.
DELETE FROM paper_commands WHERE answered_at < now() - %(seconds)s * interval '1 second';

-- name: paper_get_tokens
-- Listed tokens, by symbol (ignoring case) or mint.
SELECT symbol, mint, decimals
FROM paper_tokens
WHERE lower(symbol COLLATE "C") = ANY(%(folded)s::text[]) OR mint = ANY(%(names)s::text[]);
