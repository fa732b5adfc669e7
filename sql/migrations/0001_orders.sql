-- Orders and their life. PostgreSQL is the truth: what is not in these tables has not happened.

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

-- One row an order. Half of each page is left free and no index covers a column that changes, so
-- that a transition is a heap-only update: it writes no index and its old version is pruned in place.
CREATE TABLE orders (
    id              uuid PRIMARY KEY,
    account         text NOT NULL,
    client_order_id text,
    order_type      text NOT NULL,
    token_in        text NOT NULL,
    token_out       text NOT NULL,
    amount_in       numeric(20, 0) NOT NULL,  -- base units
    amount_in_text  text NOT NULL,            -- as the client wrote it
    slippage_bps    integer NOT NULL,
    status          text NOT NULL,
    version         integer NOT NULL,         -- length of the history: the fence and the stream's sequence
    status_history  jsonb NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    tries           integer NOT NULL DEFAULT 0,
    amount_out      numeric(20, 0),           -- base units
    tx_hash         text,
    CONSTRAINT orders_type CHECK (order_type IN ('market')),
    CONSTRAINT orders_tokens_differ CHECK (token_in <> token_out),
    CONSTRAINT orders_amount_in CHECK (amount_in BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT orders_amount_out CHECK (amount_out BETWEEN 1 AND 18446744073709551615),
    CONSTRAINT orders_slippage CHECK (slippage_bps BETWEEN 0 AND 10000),
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
        (status = 'confirmed') = (amount_out IS NOT NULL AND tx_hash IS NOT NULL)
    ),
    CONSTRAINT orders_failed CHECK (status <> 'failed' OR status_history -> -1 ? 'reason'),
    CONSTRAINT orders_times CHECK (updated_at >= created_at)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE INDEX orders_newest ON orders (created_at DESC, id DESC);

-- The unfinished orders: what recovery reads. A row goes when its order ends.
-- Without an owner an order is due at due_at; with one, that process is executing it.
CREATE TABLE open_orders (
    order_id   uuid PRIMARY KEY REFERENCES orders,
    created_at timestamptz NOT NULL,
    owner      uuid,                  -- instances.id
    started    boolean NOT NULL DEFAULT false,  -- a try has begun: going on needs no place in the rate
    due_at     timestamptz NOT NULL,  -- no work before
    wake_at    timestamptz NOT NULL   -- the sweep sends a wake-up when this has passed
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500
);

-- Neither index holds a column that a start of work changes.
CREATE INDEX open_orders_due ON open_orders (due_at, order_id);
CREATE INDEX open_orders_newest ON open_orders (created_at DESC, order_id DESC);

-- The ended orders by their final status: insert only, so that lists by status cost the orders table
-- no index on a column that changes.
CREATE TABLE finished_orders (
    status     text NOT NULL,
    created_at timestamptz NOT NULL,
    order_id   uuid NOT NULL REFERENCES orders,
    PRIMARY KEY (status, created_at, order_id),
    CONSTRAINT finished_orders_status CHECK (
        status IN ('confirmed', 'failed', 'cancelled', 'expired')
    )
);

-- What each DEX offered, try by try.
CREATE TABLE order_quotes (
    order_id uuid NOT NULL REFERENCES orders,
    sequence integer NOT NULL,  -- of the history entry that chose among them
    offers   jsonb NOT NULL,
    PRIMARY KEY (order_id, sequence)
);

-- Signed transactions, written by the statement that moves their order to submitted: before a byte
-- is sent, its attempt is here.
CREATE TABLE attempts (
    id                text PRIMARY KEY,  -- the transaction's signature
    order_id          uuid NOT NULL REFERENCES orders,
    sequence          integer NOT NULL,  -- of the history entry that made it
    venue             text NOT NULL,
    transaction       bytea NOT NULL,
    minimum_out       numeric(20, 0) NOT NULL,
    last_valid_height bigint NOT NULL,
    UNIQUE (order_id, sequence),
    CONSTRAINT attempts_minimum_out CHECK (minimum_out BETWEEN 1 AND 18446744073709551615)
);

-- The clients' own order ids, unique per account for good.
CREATE TABLE client_orders (
    account         text NOT NULL,
    client_order_id text NOT NULL,
    order_id        uuid NOT NULL,
    PRIMARY KEY (account, client_order_id)
);

-- One row a process start; the processes that execute orders, and when each was last heard of.
CREATE TABLE instances (
    id         uuid PRIMARY KEY,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The rate limit: as many rows as orders may start in any 60 seconds. A start takes a row that was
-- last used 60 seconds ago or longer, in the statement that writes the order's history, so no window
-- of 60 seconds can hold more starts than there are rows.
CREATE TABLE rate_starts (
    slot       integer PRIMARY KEY,
    started_at timestamptz NOT NULL
) WITH (fillfactor = 20);
