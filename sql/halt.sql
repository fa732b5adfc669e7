-- The kill switch: while trading is halted, no order is accepted, fired, started or submitted.

-- name: halt_trading
-- Halt trading, or replace the reason.
INSERT INTO trading_halt (reason, halted_at)
VALUES (%(reason)s, now())
ON CONFLICT (only_row) DO UPDATE SET reason = excluded.reason
RETURNING reason, rfc3339(halted_at) AS halted_at;

-- name: resume_trading
-- Resume trading.
DELETE FROM trading_halt;

-- name: get_halt
-- Return why trading is halted, and since when; no row if it is not.
SELECT reason, rfc3339(halted_at) AS halted_at FROM trading_halt;

-- fragment: trading
-- Whether trading is not halted.
NOT EXISTS (SELECT 1 FROM trading_halt)
