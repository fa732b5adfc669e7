-- The keys under which clients may repeat a request. docs/schema.md explains every column.

CREATE TABLE idempotency_keys (
    account      text NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,        -- SHA-256 of the method, the path and the body
    created_at   timestamptz NOT NULL,
    order_id     uuid,                  -- the order that the request placed: the response is made from it
    owner        uuid,                  -- of other requests: the process that handles it,
    reservation  text,                  -- and the request: a copy of it, in the same process, has another
    status       integer,               -- and its response, null until it has been handled
    response     bytea,
    PRIMARY KEY (account, key),
    CONSTRAINT idempotency_keys_kind CHECK ((order_id IS NULL) <> (owner IS NULL)),
    CONSTRAINT idempotency_keys_reservation CHECK ((owner IS NULL) = (reservation IS NULL)),
    CONSTRAINT idempotency_keys_response CHECK ((status IS NULL) = (response IS NULL))
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
