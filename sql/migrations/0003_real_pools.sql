-- The paper market trades on real pool programs, orders may fix either side of the swap, and a
-- transaction executes a whole route.

-- Orders: the amount that the client fixed, and what was paid and got.
ALTER TABLE orders RENAME COLUMN amount_in TO amount;
ALTER TABLE orders RENAME COLUMN amount_in_text TO amount_text;
ALTER TABLE orders RENAME CONSTRAINT orders_amount_in TO orders_amount;
ALTER TABLE orders
    ADD COLUMN swap_mode text NOT NULL DEFAULT 'exactIn',  -- the side that is fixed
    ADD COLUMN amount_in numeric(20, 0),                   -- base units paid
    ADD CONSTRAINT orders_swap_mode CHECK (swap_mode IN ('exactIn', 'exactOut')),
    ADD CONSTRAINT orders_amount_in CHECK (amount_in BETWEEN 1 AND 18446744073709551615);
UPDATE orders SET amount_in = amount WHERE status = 'confirmed';
ALTER TABLE orders DROP CONSTRAINT orders_filled;
ALTER TABLE orders ADD CONSTRAINT orders_filled CHECK (
    (status = 'confirmed') = (amount_in IS NOT NULL AND amount_out IS NOT NULL AND tx_hash IS NOT NULL)
);

-- The route that was chosen among the offers, and what it beat; null: none was.
ALTER TABLE order_quotes ADD COLUMN route jsonb;

ALTER TABLE attempts ADD COLUMN maximum_in numeric(20, 0);
UPDATE attempts AS a SET maximum_in = o.amount FROM orders AS o WHERE o.id = a.order_id;
ALTER TABLE attempts
    ALTER COLUMN maximum_in SET NOT NULL,
    ADD CONSTRAINT attempts_maximum_in CHECK (maximum_in BETWEEN 1 AND 18446744073709551615);

-- The old market's pools are gone, so what waited for them can land no more, and the old market's own
-- trades balance nothing.
DROP TABLE paper_pools;
DELETE FROM paper_transactions WHERE order_id IS NULL;
DROP INDEX paper_transactions_pending;
ALTER TABLE paper_transactions DROP CONSTRAINT paper_transactions_minimum;
UPDATE paper_transactions
SET status = 'failed', failure = 'transaction_failed', settled_at = now()
WHERE status = 'pending';

-- Of those it had not seen yet the same is noted, so that their orders learn it when they ask; and what was
-- signed is put into the form in which it can be asked after.
INSERT INTO paper_transactions (
    signature, order_id, attempt, status, failure, last_valid_slot, submitted_at, settled_at
)
SELECT a.id, a.order_id, o.tries, 'failed', 'transaction_failed', a.last_valid_height, now(), now()
FROM attempts AS a
JOIN orders AS o ON o.id = a.order_id
WHERE o.status = 'submitted'
ON CONFLICT DO NOTHING;
UPDATE attempts AS a
SET transaction = substring(a.transaction FOR 64) || convert_to(jsonb_build_object(
    'order_id', old -> 'order_id',
    'attempt', old -> 'attempt',
    'mode', 'exactIn',
    'token_in', old -> 'token_in',
    'token_out', old -> 'token_out',
    'paths', jsonb_build_array(jsonb_build_object(
        'amount', old -> 'amount_in',
        'legs', jsonb_build_array(jsonb_build_array(old -> 'pool_id', old -> 'token_in', old -> 'token_out'))
    )),
    'maximum_in', old -> 'amount_in',
    'minimum_out', old -> 'minimum_out',
    'last_valid_slot', old -> 'last_valid_slot'
)::text, 'UTF8')
FROM (
    SELECT s.id, convert_from(substring(s.transaction FROM 65), 'UTF8')::jsonb AS old
    FROM attempts AS s
    JOIN orders AS o ON o.id = s.order_id
    WHERE o.status = 'submitted'
) AS message
WHERE a.id = message.id;

ALTER TABLE paper_transactions
    DROP COLUMN venue,
    DROP COLUMN pool_id,
    DROP COLUMN lands_at,
    ALTER COLUMN order_id SET NOT NULL,
    ALTER COLUMN attempt SET NOT NULL,
    ADD COLUMN maximum_in numeric(20, 0),
    ADD COLUMN message text,       -- what was signed
    ADD COLUMN lands_slot bigint,  -- it executes in this slot, or a later one
    ADD CONSTRAINT paper_transactions_limits CHECK (
        status <> 'landed'
        OR amount_in IS NOT NULL
            AND amount_in <= coalesce(maximum_in, amount_in)
            AND amount_out >= minimum_out
    ),
    ADD CONSTRAINT paper_transactions_pending CHECK (
        status <> 'pending' OR message IS NOT NULL AND lands_slot IS NOT NULL
    );
CREATE INDEX paper_transactions_pending ON paper_transactions (lands_slot) WHERE status = 'pending';

-- Which process executes. Each takeover begins an epoch; every commit of the market names its epoch and
-- takes the next number of the sequence, so one that was stopped lands nothing.
CREATE TABLE paper_leader (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    leader     uuid,
    epoch      bigint NOT NULL DEFAULT 0,
    sequence   bigint NOT NULL DEFAULT 0,
    renewed_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20);
INSERT INTO paper_leader DEFAULT VALUES;

CREATE TABLE paper_pools (
    id          text PRIMARY KEY,
    dex         text NOT NULL,
    program     text NOT NULL,
    token_a     text NOT NULL,
    token_b     text NOT NULL,
    state       jsonb NOT NULL,           -- the program's account, in numbers
    vault_a     numeric(20, 0) NOT NULL,  -- what the pool's token accounts hold, all fees included
    vault_b     numeric(20, 0) NOT NULL,
    founded_a   numeric(20, 0) NOT NULL,  -- what they held at first
    founded_b   numeric(20, 0) NOT NULL,
    opened_slot bigint NOT NULL,
    CONSTRAINT paper_pools_tokens CHECK (token_a <> token_b),
    CONSTRAINT paper_pools_vaults CHECK (
        vault_a BETWEEN 0 AND 18446744073709551615 AND vault_b BETWEEN 0 AND 18446744073709551615
    )
) WITH (fillfactor = 50);

CREATE TABLE paper_wallets (
    owner     text NOT NULL,            -- user; traders: the market's own
    token     text NOT NULL,
    balance   numeric(20, 0) NOT NULL,  -- base units
    endowment numeric(20, 0) NOT NULL,  -- what it was given
    PRIMARY KEY (owner, token),
    CONSTRAINT paper_wallets_balance CHECK (balance BETWEEN 0 AND 18446744073709551615)
) WITH (fillfactor = 20);
