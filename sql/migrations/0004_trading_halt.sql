-- The kill switch, and the dead man's switch. docs/schema.md explains every column.

-- A row means that trading is halted.
CREATE TABLE trading_halt (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    reason    text NOT NULL,
    halted_at timestamptz NOT NULL,
    CONSTRAINT trading_halt_reason CHECK (length(reason) BETWEEN 1 AND 200)
);

-- When all open orders of an account are cancelled, unless its client renews the time before.
CREATE TABLE cancel_timers (
    account    text PRIMARY KEY,
    cancels_at timestamptz NOT NULL
);
