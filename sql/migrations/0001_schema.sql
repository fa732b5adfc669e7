-- The schema. First the engine's tables: PostgreSQL is the source of truth. Then the paper market's tables, which
-- simulate a chain. docs/schema.md explains every table and column.

CREATE FUNCTION rfc3339(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

COMMENT ON FUNCTION rfc3339 IS 'The form of every timestamp in a history and in the API.';

CREATE FUNCTION appended(history jsonb, status text, at timestamptz, detail jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN history || jsonb_build_array(
    detail || jsonb_build_object(
        'sequence', jsonb_array_length(history) + 1, 'status', status, 'timestamp', rfc3339(at)
    )
);

COMMENT ON FUNCTION appended IS 'A history with one more entry, numbered and dated.';

-- One row per order. Half of each page is left free and no index covers a column that changes, so
-- that a transition is a heap-only update: it writes no index and its old version is pruned in place.
CREATE TABLE orders (
    id                uuid PRIMARY KEY,
    account           text NOT NULL,
    client_order_id   text,
    label             text,                     -- the client's own words for the order
    order_type        text NOT NULL,
    token_in          text NOT NULL,
    token_out         text NOT NULL,
    decimals_in       integer,
    decimals_out      integer,                  -- null until the token is listed (sniper orders only)
    swap_mode         text NOT NULL,            -- the side whose amount is fixed
    amount            numeric(20, 0) NOT NULL,  -- the fixed amount, in base units
    amount_text       text NOT NULL,            -- as the client wrote it
    slippage_bps      integer NOT NULL,
    time_in_force     text,                     -- limit orders
    limit_price       text,                     -- tokenOut for one tokenIn, as the client wrote it
    limit_out         numeric(20, 0),           -- the minimum output for the whole amount, in base units
    sniper_conditions jsonb,                    -- as sent
    expires_at        timestamptz,
    status            text NOT NULL,
    version           integer NOT NULL,         -- length of the history: the fence and the stream's sequence
    status_history    jsonb NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    attempts          integer NOT NULL DEFAULT 0,
    quoted_in         numeric(39, 0),           -- base units that the last signed transaction was quoted
    quoted_out        numeric(39, 0),           -- sums over pools: more than one account can hold
    amount_in         numeric(20, 0),           -- base units paid
    amount_out        numeric(20, 0),           -- base units received
    tx_hash           text,
    CONSTRAINT orders_type CHECK (order_type IN ('market', 'limit', 'sniper')),
    CONSTRAINT orders_label CHECK (length(label) BETWEEN 1 AND 64),
    CONSTRAINT orders_tokens_differ CHECK (token_in <> token_out),
    CONSTRAINT orders_swap_mode CHECK (swap_mode IN ('exactIn', 'exactOut')),
    CONSTRAINT orders_exact_out CHECK (swap_mode = 'exactIn' OR order_type = 'market'),
    CONSTRAINT orders_amount CHECK (amount BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT orders_quoted_in CHECK (quoted_in >= 1),
    CONSTRAINT orders_quoted_out CHECK (quoted_out >= 1),
    CONSTRAINT orders_quoted CHECK ((quoted_in IS NULL) = (quoted_out IS NULL)),
    CONSTRAINT orders_amount_in CHECK (amount_in BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT orders_amount_out CHECK (amount_out BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT orders_slippage CHECK (slippage_bps BETWEEN 0 AND 10000),
    CONSTRAINT orders_limit CHECK (
        (order_type = 'limit') = (limit_price IS NOT NULL)
        AND (order_type = 'limit') = (limit_out IS NOT NULL)
        AND (order_type = 'limit') = (time_in_force IS NOT NULL)
    ),
    CONSTRAINT orders_limit_out CHECK (limit_out BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT orders_limit_kept CHECK (amount_out >= limit_out),
    CONSTRAINT orders_time_in_force CHECK (time_in_force IN ('GTC', 'GTD', 'IOC', 'FOK')),
    CONSTRAINT orders_expiry CHECK (
        order_type <> 'limit' OR (time_in_force = 'GTD') = (expires_at IS NOT NULL)
    ),
    CONSTRAINT orders_sniper CHECK ((order_type = 'sniper') = (sniper_conditions IS NOT NULL)),
    CONSTRAINT orders_open CHECK (
        status <> 'open' OR order_type = 'sniper' OR order_type = 'limit' AND time_in_force IN ('GTC', 'GTD')
    ),
    CONSTRAINT orders_status CHECK (status IN (
        'pending',    -- routing
        'open',       -- routing
        'routing',    -- building, pending, failed
        'building',   -- submitted, pending, failed
        'submitted',  -- confirmed, pending, failed
        'confirmed',
        'failed',
        'cancelled',
        'expired'
    )),
    CONSTRAINT orders_version CHECK (version >= 1 AND version = jsonb_array_length(status_history)),
    CONSTRAINT orders_last_entry CHECK (status_history -> -1 ->> 'status' = status),
    CONSTRAINT orders_filled CHECK (
        (status = 'confirmed') = (amount_in IS NOT NULL AND amount_out IS NOT NULL AND tx_hash IS NOT NULL)
    ),
    CONSTRAINT orders_failed CHECK (status <> 'failed' OR status_history -> -1 ? 'reason'),
    CONSTRAINT orders_times CHECK (updated_at >= created_at)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

-- For lists; none of these columns ever changes.
CREATE INDEX orders_newest ON orders (created_at DESC, id DESC);
CREATE INDEX orders_by_type ON orders (order_type, created_at DESC, id DESC);
CREATE INDEX orders_by_label ON orders (label, created_at DESC, id DESC) WHERE label IS NOT NULL;
CREATE INDEX orders_by_pair ON orders (token_in, token_out, created_at DESC, id DESC);

-- The unfinished orders, read by recovery. A row is deleted when its order ends.
-- Without an owner an order is due at due_at; with one, that process is executing it. A resting order's due time
-- is infinity until a trigger has fired it.
CREATE TABLE open_orders (
    order_id         uuid PRIMARY KEY REFERENCES orders,
    created_at       timestamptz NOT NULL,
    owner            uuid,                            -- instances.id
    started          boolean NOT NULL DEFAULT false,  -- an attempt has begun: the rate limit no longer applies to it
    due_at           timestamptz NOT NULL,            -- not executed before this time
    wake_at          timestamptz NOT NULL,            -- when the sweep sends the next wake-up
    resting          boolean NOT NULL DEFAULT false,
    rested_at        timestamptz,                     -- when it began to rest, or was last amended
    rested_version   integer,                         -- the order's version at that time: fences its firing
    not_before       timestamptz,                     -- no trigger fires it before this time
    returns          integer NOT NULL DEFAULT 0,      -- how often it has gone back to rest
    attempts_before  integer NOT NULL DEFAULT 0,      -- attempts that had ended when it last rested
    fired            jsonb,                           -- the market data that fired it
    expires_at       timestamptz,                     -- not submitted after: the order's own expiry, or earlier
    cancel_requested boolean NOT NULL DEFAULT false,
    CONSTRAINT open_orders_resting CHECK (NOT resting OR owner IS NULL AND rested_at IS NOT NULL)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500
);

-- The first two contain no column that changes when an attempt begins.
CREATE INDEX open_orders_due ON open_orders (due_at, order_id);
CREATE INDEX open_orders_newest ON open_orders (created_at DESC, order_id DESC);
CREATE INDEX open_orders_expiry ON open_orders (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX open_orders_cancelled ON open_orders (order_id) WHERE cancel_requested;
CREATE INDEX open_orders_rested ON open_orders (rested_at) WHERE resting;

-- The ended orders by their final status. Insert only, so that lists by status need no index on a column of
-- orders that changes.
CREATE TABLE finished_orders (
    status     text NOT NULL,
    created_at timestamptz NOT NULL,
    order_id   uuid NOT NULL REFERENCES orders,
    PRIMARY KEY (status, created_at, order_id),
    CONSTRAINT finished_orders_status CHECK (
        status IN ('confirmed', 'failed', 'cancelled', 'expired')
    )
);

-- What each pool quoted, attempt by attempt.
CREATE TABLE order_quotes (
    order_id uuid NOT NULL REFERENCES orders,
    sequence integer NOT NULL,  -- of the history entry that chose one
    quotes   jsonb NOT NULL,
    route    jsonb,             -- the chosen route and the one it beat; null if there was none
    PRIMARY KEY (order_id, sequence)
);

-- Signed transactions. The statement that moves the order to submitted writes the row, before a byte is sent.
CREATE TABLE transactions (
    id              text PRIMARY KEY,  -- the transaction's signature
    order_id        uuid NOT NULL REFERENCES orders,
    sequence        integer NOT NULL,  -- of the history entry that made it
    venue           text NOT NULL,
    raw             bytea NOT NULL,
    maximum_in      numeric(20, 0) NOT NULL,
    minimum_out     numeric(20, 0) NOT NULL,
    last_valid_slot bigint NOT NULL,
    UNIQUE (order_id, sequence),
    CONSTRAINT transactions_maximum_in CHECK (maximum_in BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT transactions_minimum_out CHECK (minimum_out BETWEEN 1 AND 18446744073709551615)
);

-- The clients' own order ids: unique per account, and never free again.
CREATE TABLE client_orders (
    account         text NOT NULL,
    client_order_id text NOT NULL,
    order_id        uuid NOT NULL,
    PRIMARY KEY (account, client_order_id)
);

-- Which deployment this database belongs to. Its id is part of every key and channel of its instances in Redis.
CREATE TABLE deployment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid NOT NULL
);

-- The processes that execute orders, one row per process start, with the time of the last heartbeat.
CREATE TABLE instances (
    id         uuid PRIMARY KEY,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Leader election: one process holds each named lease as long as it renews it before it expires.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    leader     uuid NOT NULL,              -- the process's UUID, new at each start
    epoch      bigint NOT NULL DEFAULT 1,  -- changes whenever another process may have led in between
    renewed_at timestamptz NOT NULL
) WITH (fillfactor = 20);

-- The rate limit: one row for each attempt that may begin in 60 seconds. A start takes a row that was last
-- used at least 60 seconds ago, in the statement that writes the order's history, so no window of 60 seconds
-- contains more starts than there are rows.
CREATE TABLE rate_starts (
    slot       integer PRIMARY KEY,
    started_at timestamptz NOT NULL
) WITH (fillfactor = 20);

-- The paper market's ledger and pools. It simulates a chain: no key joins it to the engine's tables, and
-- order_id is for audits only.

CREATE FUNCTION paper_slot(slot_ms integer) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN floor(extract(epoch FROM now()) * 1000 / slot_ms)::bigint;

COMMENT ON FUNCTION paper_slot IS 'The slot number: a function of PostgreSQL''s time only.';

-- Pools and transactions store slot numbers. Numbers of slots of two lengths cannot be compared, so the slot
-- length never changes.
CREATE TABLE paper_market (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seed     bigint NOT NULL,
    slot_ms  integer NOT NULL,
    CONSTRAINT paper_market_slot CHECK (slot_ms > 0)
);

-- Which process executes. Each takeover begins a new epoch. Every commit of the market checks its epoch and takes
-- the next sequence number, so a stale leader's commit is rejected.
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
    state       jsonb NOT NULL,           -- the state of the program's accounts, in numbers
    vault_a     numeric(20, 0) NOT NULL,  -- balances of the pool's token accounts, all fees included
    vault_b     numeric(20, 0) NOT NULL,
    initial_a   numeric(20, 0) NOT NULL,  -- the initial balances
    initial_b   numeric(20, 0) NOT NULL,
    opened_slot bigint NOT NULL,
    origin      text NOT NULL DEFAULT 'genesis',  -- how it was created, and so how it can be delisted
    sequence    bigint NOT NULL DEFAULT 0,        -- of the commit that last changed it
    CONSTRAINT paper_pools_tokens CHECK (token_a <> token_b),
    CONSTRAINT paper_pools_vaults CHECK (
        vault_a BETWEEN 0 AND 18446744073709551615 AND vault_b BETWEEN 0 AND 18446744073709551615
    ),
    CONSTRAINT paper_pools_origin CHECK (origin IN (
        'genesis',   -- created with the market
        'listed',    -- on request
        'scheduled'  -- automatically, by PAPER_LISTING_EVERY_S
    ))
) WITH (fillfactor = 50);

-- Tokens that the paper market has listed. Symbols are unique ignoring case, since people would confuse USDC
-- and usdc. The built-in tokens have no row.
CREATE TABLE paper_tokens (
    symbol   text PRIMARY KEY,
    mint     text NOT NULL UNIQUE,
    decimals integer NOT NULL,
    CONSTRAINT paper_tokens_decimals CHECK (decimals BETWEEN 0 AND 12),
    CONSTRAINT paper_tokens_not_genesis CHECK (
        lower(symbol COLLATE "C") NOT IN ('sol', 'usdc', 'usdt', 'jup', 'ray', 'bonk')
    )
);
CREATE UNIQUE INDEX paper_tokens_symbol ON paper_tokens (lower(symbol COLLATE "C"));

CREATE TABLE paper_wallets (
    owner     text NOT NULL,            -- user, traders (the market's own) or delisted
    token     text NOT NULL,
    balance   numeric(20, 0) NOT NULL,  -- base units
    funded    numeric(20, 0) NOT NULL,  -- the wallet's funding
    PRIMARY KEY (owner, token),
    CONSTRAINT paper_wallets_balance CHECK (balance BETWEEN 0 AND 18446744073709551615)
) WITH (fillfactor = 20);

CREATE TABLE paper_transactions (
    signature       text PRIMARY KEY,
    order_id        uuid NOT NULL,
    attempt         integer NOT NULL,
    token_in        text,
    token_out       text,
    status          text NOT NULL,
    maximum_in      numeric(20, 0),
    minimum_out     numeric(20, 0),
    amount_in       numeric(20, 0),
    amount_out      numeric(20, 0),
    failure         text,
    last_valid_slot bigint,
    message         text,    -- the signed message
    lands_slot      bigint,  -- it executes in this slot, or a later one
    landed_slot     bigint,  -- by PostgreSQL's clock, in the statement that records the landing
    submitted_at    timestamptz NOT NULL,
    settled_at      timestamptz,
    CONSTRAINT paper_transactions_status CHECK (
        status IN (
            'pending',  -- landed, failed, expired
            'landed',
            'failed',
            'expired'
        )
    ),
    CONSTRAINT paper_transactions_pending CHECK (
        status <> 'pending' OR message IS NOT NULL AND lands_slot IS NOT NULL
    ),
    CONSTRAINT paper_transactions_landed CHECK ((status = 'landed') = (amount_out IS NOT NULL)),
    CONSTRAINT paper_transactions_landed_slot CHECK (landed_slot IS NULL OR status = 'landed'),
    CONSTRAINT paper_transactions_limits CHECK (
        status <> 'landed'
        OR amount_in IS NOT NULL
            AND amount_in <= coalesce(maximum_in, amount_in)
            AND amount_out >= minimum_out
    ),
    CONSTRAINT paper_transactions_failed CHECK ((status = 'failed') = (failure IS NOT NULL)),
    CONSTRAINT paper_transactions_settled CHECK ((status = 'pending') = (settled_at IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX paper_transactions_pending ON paper_transactions (lands_slot) WHERE status = 'pending';

-- Requests to list or delist a pool, kept for an hour. The market's leader executes them in order of arrival; the
-- instance that accepted a request waits for the answer.
CREATE TABLE paper_commands (
    id          uuid PRIMARY KEY,
    number      bigint GENERATED ALWAYS AS IDENTITY,  -- the order of arrival
    body        jsonb NOT NULL,
    answer      text,                                 -- null: it waits for the leader
    asked_at    timestamptz NOT NULL DEFAULT now(),
    answered_at timestamptz,
    CONSTRAINT paper_commands_answered CHECK ((answer IS NULL) = (answered_at IS NULL))
);
CREATE INDEX paper_commands_waiting ON paper_commands (number) WHERE answer IS NULL;

-- The volume of each pool per second, kept for the longest window that a sniper condition can have.
CREATE TABLE paper_volumes (
    pool_id  text NOT NULL,
    second   bigint NOT NULL,           -- since the Unix epoch
    volume_a numeric(30, 0) NOT NULL,   -- base units of token A traded in or out
    volume_b numeric(30, 0) NOT NULL,
    PRIMARY KEY (second, pool_id)
);
