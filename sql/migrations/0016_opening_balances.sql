-- What the wallet held before the first order, so that an audit can work out what it must hold now. docs/schema.md
-- explains every column. Instances of an earlier version write none; the next start of this one does.

CREATE TABLE opening_balances (
    mint     text PRIMARY KEY,
    token    text NOT NULL,
    account  text NOT NULL,           -- the wallet's account that was read
    since    timestamptz NOT NULL,    -- that of venue_identity: a row of another venue counts for nothing
    slot     bigint NOT NULL,         -- in which the account was read
    amount   numeric(20, 0) NOT NULL,
    taken_at timestamptz NOT NULL,
    CONSTRAINT opening_balances_slot CHECK (slot >= 0),
    CONSTRAINT opening_balances_amount CHECK (amount BETWEEN 0 AND 18446744073709551615)
);
