-- What API keys use of their budgets. insert_budgeted_orders decides and counts; the fragment closed gives back.

-- name: get_key_usage
-- Return how many orders of a key are open, and by token what its orders have used in the last 24 hours; without
-- any, one row of nulls.
SELECT open.open_orders, used.token, used.amount, used.usd
FROM (SELECT count(*)::integer AS open_orders FROM open_orders WHERE key_id = %(key_id)s) AS open
LEFT JOIN (
    SELECT token, sum(amount) AS amount, sum(usd) AS usd
    FROM (
        SELECT minute, token, amount, usd FROM key_usage WHERE key_id = %(key_id)s
        UNION ALL
        SELECT minute, token, -amount, -usd FROM key_refunds WHERE key_id = %(key_id)s
    ) AS entry
    WHERE minute >= usage_begins()
    GROUP BY token
) AS used ON true;

-- name: delete_old_key_usage
-- Delete usage that no longer counts, a limited number of rows, and what was given back of it. Returns one row for
-- each of the first. It waits for no lock, so it cannot deadlock with budget_verdicts.
WITH refunds AS (
    DELETE FROM key_refunds
    WHERE ctid IN (SELECT ctid FROM key_refunds WHERE minute < usage_begins() FOR UPDATE SKIP LOCKED)
)
DELETE FROM key_usage
WHERE (key_id, minute, token) IN (
    SELECT key_id, minute, token
    FROM key_usage
    WHERE minute < usage_begins()
    ORDER BY minute
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING true;
