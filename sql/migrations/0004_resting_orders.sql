-- Limit and sniper orders, which rest in `open` until their condition holds; cancelling, expiry, amendments.

ALTER TABLE orders
    ADD COLUMN time_in_force text,              -- of limit orders
    ADD COLUMN limit_price text,                -- tokenOut for one tokenIn, as the client wrote it
    ADD COLUMN limit_out numeric(20, 0),        -- what the whole amount must pay at least, in base units
    ADD COLUMN sniper_conditions jsonb,         -- as sent
    ADD COLUMN expires_at timestamptz,
    DROP CONSTRAINT orders_type,
    ADD CONSTRAINT orders_type CHECK (order_type IN ('market', 'limit', 'sniper')),
    ADD CONSTRAINT orders_limit CHECK (
        (order_type = 'limit') = (limit_price IS NOT NULL)
        AND (order_type = 'limit') = (limit_out IS NOT NULL)
        AND (order_type = 'limit') = (time_in_force IS NOT NULL)
    ),
    ADD CONSTRAINT orders_limit_out CHECK (limit_out BETWEEN 1 AND 18446744073709551615),
    ADD CONSTRAINT orders_limit_kept CHECK (amount_out >= limit_out),
    ADD CONSTRAINT orders_time_in_force CHECK (time_in_force IN ('GTC', 'GTD', 'IOC', 'FOK')),
    ADD CONSTRAINT orders_expiry CHECK (
        CASE order_type
            WHEN 'limit' THEN (time_in_force = 'GTD') = (expires_at IS NOT NULL)
            WHEN 'market' THEN expires_at IS NULL
            ELSE true
        END
    ),
    ADD CONSTRAINT orders_sniper CHECK ((order_type = 'sniper') = (sniper_conditions IS NOT NULL)),
    ADD CONSTRAINT orders_exact_out CHECK (swap_mode = 'exactIn' OR order_type = 'market'),
    ADD CONSTRAINT orders_open CHECK (
        status <> 'open' OR order_type = 'sniper' OR order_type = 'limit' AND time_in_force IN ('GTC', 'GTD')
    );

-- A resting order's due time is infinity until a trigger has fired it.
ALTER TABLE open_orders
    ADD COLUMN resting boolean NOT NULL DEFAULT false,
    ADD COLUMN rested_at timestamptz,                          -- when it began to rest, or was amended
    ADD COLUMN rested_version integer,                         -- the order's version then: fences its firing
    ADD COLUMN not_before timestamptz,                         -- no trigger fires it before
    ADD COLUMN returns integer NOT NULL DEFAULT 0,             -- how often it has come back to rest
    ADD COLUMN tries_before integer NOT NULL DEFAULT 0,        -- tries that were over when it last rested
    ADD COLUMN fired jsonb,                                    -- what a trigger saw when it fired it
    ADD COLUMN expires_at timestamptz,                         -- the order's
    ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT open_orders_resting CHECK (NOT resting OR owner IS NULL AND rested_at IS NOT NULL);

-- For lists by type and by pair; none of these columns ever changes.
CREATE INDEX orders_by_type ON orders (order_type, created_at DESC, id DESC);
CREATE INDEX orders_by_pair ON orders (token_in, token_out, created_at DESC, id DESC);

CREATE INDEX open_orders_expiry ON open_orders (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX open_orders_cancelled ON open_orders (order_id) WHERE cancel_requested;
CREATE INDEX open_orders_rested ON open_orders (rested_at) WHERE resting;

-- Offices that one process at a time holds: it says so again before its lease runs out.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    epoch      bigint NOT NULL DEFAULT 1,  -- changes whenever somebody else may have held it in between
    renewed_at timestamptz NOT NULL
) WITH (fillfactor = 20);

-- What was traded in each pool, second by second, for as long as a condition can ask for.
CREATE TABLE paper_volumes (
    pool_id  text NOT NULL,
    second   bigint NOT NULL,           -- since the Unix epoch
    volume_a numeric(30, 0) NOT NULL,   -- base units of token A that went in or came out
    volume_b numeric(30, 0) NOT NULL,
    PRIMARY KEY (second, pool_id)
);

-- Tokens that the paper market has listed.
CREATE TABLE paper_tokens (
    symbol   text PRIMARY KEY,
    mint     text NOT NULL UNIQUE,
    decimals integer NOT NULL,
    CONSTRAINT paper_tokens_decimals CHECK (decimals BETWEEN 0 AND 12)
);
