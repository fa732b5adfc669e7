-- What the wallet held before the first order.

-- name: record_opening_balances
-- Store what the wallet holds of the tokens that have no opening balance yet, if this is still the venue of the database.
-- Of instances that start at the same time the first one counts. A row of an earlier venue is replaced.
INSERT INTO opening_balances AS b (mint, token, account, since, slot, amount, taken_at)
SELECT row.mint, row.token, row.account, v.since, row.slot, row.amount, now()
FROM venue_identity AS v
CROSS JOIN jsonb_to_recordset(%(rows)s::jsonb) AS row (
    mint text, token text, account text, slot bigint, amount numeric
)
WHERE (v.kind, v.market, v.wallet) = (%(kind)s, %(market)s, %(wallet)s)
ORDER BY row.mint
ON CONFLICT (mint) DO UPDATE
SET
    token = excluded.token,
    account = excluded.account,
    since = excluded.since,
    slot = excluded.slot,
    amount = excluded.amount,
    taken_at = excluded.taken_at
WHERE b.since <> excluded.since;
