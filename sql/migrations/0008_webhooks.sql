-- Webhooks. docs/schema.md explains every column.

-- Where an account wants to be told of the changes of its orders. The statements of orders only read it.
CREATE TABLE webhook_endpoints (
    id              uuid PRIMARY KEY,
    account         text NOT NULL,
    place           integer NOT NULL,            -- among the account's endpoints: limits their number
    url             text NOT NULL,
    events          text[],                      -- statuses; null: all
    order_type      text,                        -- null: all
    label           text,                        -- null: all
    description     text,
    secret          bytea NOT NULL,              -- readable, because it signs
    previous_secret bytea,                       -- the one before the last rotation
    previous_until  timestamptz,                 -- until when that one signs too
    enabled         boolean NOT NULL DEFAULT true,
    disabled_reason text,                        -- why the service disabled it
    failures        integer NOT NULL DEFAULT 0,  -- how often it has failed since it last answered well
    retry_at        timestamptz NOT NULL,        -- nothing is sent before this time
    created_at      timestamptz NOT NULL,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    last_failure    text,
    given_up        bigint NOT NULL DEFAULT 0,   -- deliveries that failed for a day
    UNIQUE (account, place),
    CONSTRAINT webhook_endpoints_previous CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CONSTRAINT webhook_endpoints_disabled CHECK (NOT enabled OR disabled_reason IS NULL)
) WITH (fillfactor = 50);

-- The changes of orders that are still to be delivered, each written by the statement that changes the order. No
-- foreign keys: an order must never wait for the lock of an endpoint.
CREATE TABLE webhook_deliveries (
    endpoint_id  uuid NOT NULL,
    order_id     uuid NOT NULL,
    sequence     integer NOT NULL,             -- of the history entry
    created_at   timestamptz NOT NULL,
    due_at       timestamptz NOT NULL,         -- not sent before this time
    attempts     integer NOT NULL DEFAULT 0,   -- that have failed
    leased_until timestamptz,                  -- an instance is sending it; if that dies, another does after this time
    PRIMARY KEY (endpoint_id, order_id, sequence)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at);
CREATE INDEX webhook_deliveries_created ON webhook_deliveries (created_at);
