-- The kill switch: while trading is halted, no order is accepted, fired, started or submitted.

-- name: halt_trading
-- Halt trading, or replace the reason.
INSERT INTO trading_halt (reason, halted_at)
VALUES (%(reason)s, now())
ON CONFLICT (only_row) DO UPDATE SET reason = excluded.reason
RETURNING reason, rfc3339(halted_at) AS halted_at;

-- name: get_clock
-- Return PostgreSQL's time at this moment, which is later than now() within a statement.
SELECT clock_timestamp()::text;

-- name: count_trading_statements
-- Count the statements that read trading_halt, as those that insert, fire, claim and submit orders do, and began
-- before a time. Those of other roles, such as a backup, are not seen here, and do not trade.
SELECT count(*)
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.relation = 'trading_halt'::regclass
    AND l.pid <> pg_backend_pid()
    AND a.xact_start <= %(began)s::timestamptz;

-- name: resume_trading
-- Resume trading.
DELETE FROM trading_halt;

-- name: get_halt
-- Return why trading is halted, and since when; no row if it is not.
SELECT reason, rfc3339(halted_at) AS halted_at FROM trading_halt;

-- fragment: trading
-- Whether trading is not halted.
NOT EXISTS (SELECT 1 FROM trading_halt)
