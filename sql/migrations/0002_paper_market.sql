-- The paper market's own ledger and pools. It stands for a chain: no key joins it to the engine's
-- tables, and order_id is a memo for audits.

CREATE FUNCTION paper_slot(slot_ms integer) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN floor(extract(epoch FROM now()) * 1000 / slot_ms)::bigint;

COMMENT ON FUNCTION paper_slot IS 'The slot number: a function of PostgreSQL''s time only.';

CREATE TABLE paper_market (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seed     bigint NOT NULL
);

CREATE TABLE paper_pools (
    id        text PRIMARY KEY,
    dex       text NOT NULL,
    token_a   text NOT NULL,
    token_b   text NOT NULL,
    fee_ppm   integer NOT NULL,
    reserve_a numeric(20, 0) NOT NULL,
    reserve_b numeric(20, 0) NOT NULL,
    home_a    numeric(20, 0) NOT NULL,  -- home_b / home_a is the price the market's traders restore
    home_b    numeric(20, 0) NOT NULL,
    version   bigint NOT NULL DEFAULT 1,
    UNIQUE (dex, token_a, token_b),
    CONSTRAINT paper_pools_tokens CHECK (token_a <> token_b),
    CONSTRAINT paper_pools_fee CHECK (fee_ppm BETWEEN 0 AND 999999),
    CONSTRAINT paper_pools_reserves CHECK (
        reserve_a BETWEEN 1 AND 18446744073709551615
        AND reserve_b BETWEEN 1 AND 18446744073709551615
    )
) WITH (fillfactor = 20);

CREATE TABLE paper_transactions (
    signature       text PRIMARY KEY,
    order_id        uuid,     -- null: the market's own trade
    attempt         integer,
    venue           text,     -- the DEX
    pool_id         text,
    token_in        text,
    token_out       text,
    status          text NOT NULL,
    amount_in       numeric(20, 0),
    minimum_out     numeric(20, 0),
    amount_out      numeric(20, 0),
    failure         text,
    last_valid_slot bigint,
    submitted_at    timestamptz NOT NULL,
    lands_at        timestamptz,
    settled_at      timestamptz,
    CONSTRAINT paper_transactions_status CHECK (
        status IN (
            'pending',  -- landed, failed, expired
            'landed',
            'failed',
            'expired'
        )
    ),
    CONSTRAINT paper_transactions_landed CHECK ((status = 'landed') = (amount_out IS NOT NULL)),
    CONSTRAINT paper_transactions_minimum CHECK (status <> 'landed' OR amount_out >= minimum_out),
    CONSTRAINT paper_transactions_failed CHECK ((status = 'failed') = (failure IS NOT NULL)),
    CONSTRAINT paper_transactions_settled CHECK ((status = 'pending') = (settled_at IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX paper_transactions_pending ON paper_transactions (lands_at) WHERE status = 'pending';
