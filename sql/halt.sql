-- The kill switch: while trading is halted, no order is accepted, fired, started or submitted.

-- name: halt_trading
-- Halt trading, or replace the reason.
INSERT INTO trading_halt (reason, halted_at)
VALUES (%(reason)s, now())
ON CONFLICT (only_row) DO UPDATE SET reason = excluded.reason
RETURNING reason, rfc3339(halted_at) AS halted_at;

-- name: wait_for_running_statements
-- Wait until every statement has ended that may have begun before trading was halted: each holds a lock on the table
-- that it reads. (Statements sent together are one transaction.)
SET LOCAL lock_timeout = 0;
LOCK TABLE trading_halt IN ACCESS EXCLUSIVE MODE;

-- name: resume_trading
-- Resume trading.
DELETE FROM trading_halt;

-- name: get_halt
-- Return why trading is halted, and since when; no row if it is not.
SELECT reason, rfc3339(halted_at) AS halted_at FROM trading_halt;

-- fragment: trading
-- Whether trading is not halted.
NOT EXISTS (SELECT 1 FROM trading_halt)
