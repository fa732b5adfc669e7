-- Which venue the orders of this database belong to.

-- name: register_instance
-- Register a process, if its venue is the one of this database, or can replace it: no order is open and no other
-- process runs. Those of the replaced venue are not registered any more. Returns whether it is registered, otherwise
-- the venue of this database; nothing if another process has changed it at this moment.
WITH others AS (
    SELECT count(*) AS running
    FROM instances
    WHERE id <> %(instance)s AND seen_at > now() - %(gone_after_s)s * interval '1 second'
),
agreed AS (
    INSERT INTO venue_identity AS v (kind, market, wallet)
    VALUES (%(kind)s, %(market)s, %(wallet)s)
    ON CONFLICT (only_row) DO UPDATE
    SET
        kind = excluded.kind,
        market = excluded.market,
        wallet = excluded.wallet,
        starts = v.starts + 1,
        since = CASE
            WHEN (v.kind, v.market, v.wallet) = (excluded.kind, excluded.market, excluded.wallet) THEN v.since
            ELSE now()
        END
    WHERE (v.kind, v.market, v.wallet) = (excluded.kind, excluded.market, excluded.wallet)
        -- v is the latest row, but all else is as of when this statement began. Whoever has registered since then has
        -- counted up v.starts.
        OR v.starts = (SELECT starts FROM venue_identity)
            AND NOT EXISTS (SELECT 1 FROM open_orders)
            AND (SELECT running FROM others) = 0
    RETURNING kind, market, wallet
),
registered AS (
    INSERT INTO instances (id, started_at, seen_at)
    SELECT %(instance)s::uuid, now(), now() FROM agreed
    ON CONFLICT (id) DO UPDATE SET seen_at = now()
),
removed AS (
    -- v is the venue before this statement. Of its processes one may only have been paused: without its row, it neither
    -- claims nor submits what is placed on the new venue.
    DELETE FROM instances AS i
    USING agreed AS a, venue_identity AS v
    WHERE i.id <> %(instance)s AND (v.kind, v.market, v.wallet) <> (a.kind, a.market, a.wallet)
)
SELECT true AS registered, kind, market, wallet, 0 AS open_orders, 0 AS instances FROM agreed
UNION ALL
SELECT
    false, kind, market, wallet, (SELECT count(*) FROM open_orders), (SELECT running FROM others)
FROM venue_identity
WHERE NOT EXISTS (SELECT 1 FROM agreed);
