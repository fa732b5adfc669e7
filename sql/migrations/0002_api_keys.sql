-- API keys, and the tickets with which browsers open WebSockets. docs/schema.md explains every column.

CREATE TABLE api_keys (
    id             text PRIMARY KEY,      -- public
    account        text NOT NULL,
    name           text NOT NULL,
    scope          text NOT NULL,
    secret_hash    bytea NOT NULL,        -- SHA-256
    previous_hash  bytea,                 -- of the secret before the last rotation
    previous_until timestamptz,           -- until when that one is valid
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    changed_at     timestamptz NOT NULL,  -- the processes read the keys that have changed since they last did
    CONSTRAINT api_keys_scope CHECK (scope IN ('read', 'trade', 'admin')),
    CONSTRAINT api_keys_name CHECK (length(name) BETWEEN 1 AND 64),
    CONSTRAINT api_keys_account CHECK (account ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    CONSTRAINT api_keys_previous CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);
CREATE INDEX api_keys_changed ON api_keys (changed_at);

-- A ticket opens one WebSocket, for a browser, which cannot send the header Authorization with one.
CREATE TABLE stream_tickets (
    ticket_hash bytea PRIMARY KEY,        -- SHA-256
    key_id      text REFERENCES api_keys,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX stream_tickets_expiry ON stream_tickets (expires_at);

-- Lists and cancellations by account.
-- The defaults are for instances of 0.1.0 that still run, whose orders are all of this account.
ALTER TABLE finished_orders ADD COLUMN account text NOT NULL DEFAULT 'default';
ALTER TABLE open_orders ADD COLUMN account text NOT NULL DEFAULT 'default';
CREATE INDEX open_orders_by_account ON open_orders (account, created_at DESC, order_id DESC);
CREATE INDEX finished_orders_by_account ON finished_orders (account, status, created_at DESC, order_id DESC);
CREATE INDEX orders_by_account ON orders (account, created_at DESC, id DESC);
