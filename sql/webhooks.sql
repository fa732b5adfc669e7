-- Webhooks: the endpoints of accounts, and the changes of orders that are still to be delivered to them.

-- fragment: notified
-- Queue each change of the orders that have ``changed`` for the endpoints that want it. It only inserts rows, so an
-- order never waits for an endpoint.
notified AS (
    INSERT INTO webhook_deliveries (endpoint_id, order_id, sequence, created_at, due_at)
    SELECT w.id, c.id, c.version, now(), now()
    FROM changed AS c
    JOIN webhook_endpoints AS w ON w.account = c.account
    WHERE w.enabled
        AND (w.events IS NULL OR c.status = ANY(w.events))
        AND (w.order_type IS NULL OR w.order_type = c.order_type)
        AND (w.label IS NULL OR w.label = c.label)
    ON CONFLICT DO NOTHING
)

-- name: create_webhook_endpoint
-- Store an endpoint in a free place of its account. Returns no id if another request has just taken the place, or if
-- the account is full.
WITH free AS (
    SELECT min(p.place) AS place
    FROM generate_series(1, %(most)s) AS p (place)
    WHERE NOT EXISTS (SELECT 1 FROM webhook_endpoints AS e WHERE e.account = %(account)s AND e.place = p.place)
),
created AS (
    INSERT INTO webhook_endpoints (
        id, account, place, url, events, order_type, label, description, secret, retry_at, created_at
    )
    SELECT
        %(id)s::uuid, %(account)s, place, %(url)s, %(events)s::text[], %(order_type)s, %(label)s,
        %(description)s, %(secret)s::bytea, now(), now()
    FROM free
    WHERE place IS NOT NULL
    ON CONFLICT (account, place) DO NOTHING
    RETURNING id
)
SELECT (SELECT id::text FROM created) AS id, (SELECT place FROM free) IS NULL AS is_full;

-- name: get_webhook_endpoints
-- Return the endpoints of an account (null: of all), or one of them (null: all), the oldest first.
SELECT
    e.id::text, e.account, e.url, e.events, e.order_type, e.label, e.description, e.enabled, e.disabled_reason,
    rfc3339(e.created_at) AS created_at, rfc3339(e.last_success_at) AS last_success_at,
    rfc3339(e.last_failure_at) AS last_failure_at, e.last_failure,
    CASE WHEN e.retry_at > now() THEN rfc3339(e.retry_at) END AS paused_until, e.given_up,
    (
        SELECT count(*)::integer
        FROM (SELECT 1 FROM webhook_deliveries AS d WHERE d.endpoint_id = e.id LIMIT %(most_pending)s) AS pending
    ) AS pending
FROM webhook_endpoints AS e
WHERE (%(account)s::text IS NULL OR e.account = %(account)s)
    AND (%(id)s::uuid IS NULL OR e.id = %(id)s::uuid)
ORDER BY e.created_at, e.id
LIMIT %(most)s;

-- name: update_webhook_endpoint
-- Change an endpoint of an account (null: of any); a null value does not change, but for events and description,
-- which say so themselves. It is tried again at once. Returns its id if it exists.
UPDATE webhook_endpoints
SET
    url = coalesce(%(url)s, url),
    events = CASE WHEN %(sets_events)s THEN %(events)s::text[] ELSE events END,
    description = CASE WHEN %(sets_description)s THEN %(description)s ELSE description END,
    enabled = coalesce(%(enabled)s, enabled),
    disabled_reason = CASE WHEN %(enabled)s IS NULL THEN disabled_reason END,
    failures = 0,
    retry_at = now()
WHERE id = %(id)s AND (%(account)s::text IS NULL OR account = %(account)s)
RETURNING id::text;

-- name: rotate_webhook_secret
-- Replace an endpoint's secret; for a while both sign. Returns until when, if the endpoint exists.
UPDATE webhook_endpoints
SET
    previous_secret = secret,
    previous_until = now() + %(overlap_s)s * interval '1 second',
    secret = %(secret)s
WHERE id = %(id)s AND (%(account)s::text IS NULL OR account = %(account)s)
RETURNING rfc3339(previous_until) AS previous_until;

-- name: delete_webhook_endpoint
-- Delete an endpoint of an account (null: of any). Returns its id if it existed.
DELETE FROM webhook_endpoints
WHERE id = %(id)s AND (%(account)s::text IS NULL OR account = %(account)s)
RETURNING id::text;

-- name: drop_webhook_deliveries
-- Delete deliveries to endpoints that do not exist any more, a limited number. Returns one row for each. It looks at
-- one row of each endpoint, and reads the rest only of those.
WITH RECURSIVE queued AS (
    (SELECT endpoint_id FROM webhook_deliveries ORDER BY endpoint_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT d.endpoint_id
        FROM webhook_deliveries AS d
        WHERE d.endpoint_id > q.endpoint_id
        ORDER BY d.endpoint_id
        LIMIT 1
    )
    FROM queued AS q
    WHERE q.endpoint_id IS NOT NULL
),
orphaned AS (
    SELECT q.endpoint_id
    FROM queued AS q
    WHERE NOT EXISTS (SELECT 1 FROM webhook_endpoints AS e WHERE e.id = q.endpoint_id)
)
DELETE FROM webhook_deliveries
WHERE (endpoint_id, order_id, sequence) IN (
    SELECT d.endpoint_id, d.order_id, d.sequence
    FROM orphaned AS o
    JOIN webhook_deliveries AS d ON d.endpoint_id = o.endpoint_id
    LIMIT %(most)s
    FOR UPDATE OF d SKIP LOCKED
)
RETURNING true;

-- name: has_webhook_endpoints
-- Return whether any endpoint is enabled.
SELECT EXISTS (SELECT 1 FROM webhook_endpoints WHERE enabled) AS found;

-- name: claim_webhook_deliveries
-- Lease deliveries that are due: of each order only the earliest that is left, so that they arrive in order. An
-- endpoint, and all of an account, get as many at once as the limits leave (busy: how many this process is sending),
-- and an endpoint that has failed repeatedly a single one. An endpoint gets no more than half of what its account
-- has left, so that one that is slow leaves places to the others. Accounts take turns, and so do an account's endpoints.
WITH busy AS (
    SELECT * FROM jsonb_to_recordset(%(busy)s::jsonb) AS row (id uuid, account text, sending integer)
),
accounts AS (
    SELECT account, sum(sending)::integer AS sending FROM busy GROUP BY account
),
ready AS (
    SELECT
        e.id, e.account, coalesce(b.sending, 0) AS sending, coalesce(a.sending, 0) AS account_sending,
        CASE
            WHEN e.failures >= %(suspend_after)s THEN 1
            ELSE greatest(least(%(per_endpoint)s, (%(per_account)s - coalesce(a.sending, 0)) / 2), 1)
        END AS at_most
    FROM webhook_endpoints AS e
    LEFT JOIN busy AS b ON b.id = e.id
    LEFT JOIN accounts AS a ON a.account = e.account
    WHERE e.enabled AND e.retry_at <= now() AND coalesce(a.sending, 0) < %(per_account)s
),
found AS (
    SELECT
        d.endpoint_id, d.order_id, d.sequence, r.account, r.account_sending,
        r.sending + row_number() OVER (PARTITION BY r.id ORDER BY d.due_at) AS turn_of_endpoint
    FROM ready AS r
    CROSS JOIN LATERAL (
        SELECT f.endpoint_id, f.order_id, f.sequence, f.due_at
        FROM webhook_deliveries AS f
        WHERE f.endpoint_id = r.id
            AND f.due_at <= now()
            AND (f.leased_until IS NULL OR f.leased_until <= now())
            AND f.sequence = (
                SELECT min(s.sequence)
                FROM webhook_deliveries AS s
                WHERE s.endpoint_id = f.endpoint_id AND s.order_id = f.order_id
            )
        ORDER BY f.due_at
        LIMIT greatest(r.at_most - r.sending, 0)
        FOR UPDATE OF f SKIP LOCKED
    ) AS d
),
turns AS (
    SELECT
        endpoint_id, order_id, sequence,
        account_sending + row_number() OVER (PARTITION BY account ORDER BY turn_of_endpoint, endpoint_id) AS turn
    FROM found
),
heads AS (
    SELECT endpoint_id, order_id, sequence
    FROM turns
    WHERE turn <= %(per_account)s
    ORDER BY turn
    LIMIT %(most)s
),
-- What is queued behind one that waits is not read again at each claim: it waits as long. One that is leased is not
-- waited for, since its result may be recorded at the same time.
blocked AS (
    SELECT d.endpoint_id, d.order_id, d.sequence, d.due_at
    FROM ready AS r
    CROSS JOIN LATERAL (
        SELECT f.endpoint_id, f.order_id, f.sequence, h.due_at
        FROM (
            SELECT n.endpoint_id, n.order_id, n.sequence
            FROM webhook_deliveries AS n
            WHERE n.endpoint_id = r.id AND n.due_at <= now()
            ORDER BY n.due_at
            LIMIT %(most_blocked)s
        ) AS due
        JOIN webhook_deliveries AS f
            ON f.endpoint_id = due.endpoint_id AND f.order_id = due.order_id AND f.sequence = due.sequence
        JOIN webhook_deliveries AS h
            ON h.endpoint_id = f.endpoint_id AND h.order_id = f.order_id
                AND h.sequence = (
                    SELECT min(s.sequence)
                    FROM webhook_deliveries AS s
                    WHERE s.endpoint_id = f.endpoint_id AND s.order_id = f.order_id
                )
        WHERE h.sequence < f.sequence AND h.due_at > now() AND h.leased_until IS NULL AND f.due_at <= now()
        FOR UPDATE OF f, h SKIP LOCKED
    ) AS d
),
postponed AS (
    UPDATE webhook_deliveries AS d
    SET due_at = b.due_at
    FROM blocked AS b
    WHERE d.endpoint_id = b.endpoint_id AND d.order_id = b.order_id AND d.sequence = b.sequence
),
leased AS (
    UPDATE webhook_deliveries AS d
    SET leased_until = now() + %(lease_s)s * interval '1 second'
    FROM heads AS h
    WHERE d.endpoint_id = h.endpoint_id AND d.order_id = h.order_id AND d.sequence = h.sequence
    RETURNING d.endpoint_id, d.order_id, d.sequence, d.attempts
)
SELECT
    l.endpoint_id::text, e.account, l.order_id::text, l.sequence, l.attempts, e.url, e.secret,
    CASE WHEN e.previous_until > now() THEN e.previous_secret END AS previous_secret
FROM leased AS l
JOIN webhook_endpoints AS e ON e.id = l.endpoint_id;

-- name: settle_webhook_deliveries
-- Record the results of attempts. What was delivered is deleted, and the next one of its order is due. A failed one
-- waits, and so do the later ones of its order. One with neither was not tried: it is due again. An endpoint
-- that fails repeatedly without a success between is suspended, for a time that doubles; failures during
-- the suspension do not count. Returns what changed about the endpoints.
WITH results AS (
    SELECT *
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
        endpoint_id uuid, order_id uuid, sequence integer, delivered boolean, failure text, retry_in_ms bigint,
        pause_ms bigint, gone boolean
    )
),
locked AS (
    SELECT
        d.endpoint_id, d.order_id, d.sequence, d.due_at, d.sequence = r.sequence AS is_tried, r.delivered, r.failure,
        r.retry_in_ms
    FROM results AS r
    JOIN webhook_deliveries AS d
        ON d.endpoint_id = r.endpoint_id AND d.order_id = r.order_id AND d.sequence >= r.sequence
    ORDER BY d.endpoint_id, d.order_id, d.sequence
    FOR UPDATE OF d
),
removed AS (
    DELETE FROM webhook_deliveries AS d
    USING locked AS l
    WHERE d.endpoint_id = l.endpoint_id AND d.order_id = l.order_id AND d.sequence = l.sequence
        AND l.is_tried AND l.delivered
),
moved AS (
    UPDATE webhook_deliveries AS d
    SET
        due_at = CASE
            WHEN l.failure IS NULL THEN least(d.due_at, now())
            ELSE now() + l.retry_in_ms * interval '1 millisecond'
        END,
        attempts = d.attempts + CASE WHEN l.is_tried AND l.failure IS NOT NULL THEN 1 ELSE 0 END,
        leased_until = CASE WHEN l.is_tried THEN NULL ELSE d.leased_until END
    FROM locked AS l
    WHERE d.endpoint_id = l.endpoint_id AND d.order_id = l.order_id AND d.sequence = l.sequence
        AND NOT (l.is_tried AND l.delivered)
        AND (l.is_tried OR l.failure IS NOT NULL OR l.due_at > now())
),
tallies AS (
    SELECT
        endpoint_id, bool_or(delivered) AS delivered, bool_or(gone) AS gone, max(pause_ms) AS pause_ms,
        coalesce(max(failure) FILTER (WHERE gone), max(failure)) AS failure
    FROM results
    WHERE delivered OR failure IS NOT NULL
    GROUP BY endpoint_id
),
judged AS (
    SELECT
        e.id, t.delivered, t.gone, t.pause_ms, t.failure, e.failures AS before, e.retry_at <= now() AS was_ready,
        CASE WHEN t.delivered THEN 0 ELSE e.failures + (e.retry_at <= now())::integer END AS failures
    FROM tallies AS t
    JOIN webhook_endpoints AS e ON e.id = t.endpoint_id
    ORDER BY e.id
    FOR UPDATE OF e
)
UPDATE webhook_endpoints AS e
SET
    failures = j.failures,
    retry_at = greatest(
        CASE
            WHEN j.delivered AND j.before >= %(suspend_after)s THEN now()
            WHEN NOT j.delivered AND j.was_ready AND j.failures >= %(suspend_after)s THEN
                now() + (0.5 + random() / 2)
                * least(%(suspend_ms)s * 2 ^ least(j.failures - %(suspend_after)s, 20), %(longest_suspend_ms)s)
                * interval '1 millisecond'
            ELSE e.retry_at
        END,
        now() + j.pause_ms * interval '1 millisecond'
    ),
    last_success_at = CASE WHEN j.delivered THEN now() ELSE e.last_success_at END,
    last_failure_at = CASE WHEN j.failure IS NULL THEN e.last_failure_at ELSE now() END,
    last_failure = coalesce(j.failure, e.last_failure),
    enabled = e.enabled AND NOT j.gone,
    disabled_reason = CASE WHEN j.gone THEN j.failure ELSE e.disabled_reason END
FROM judged AS j
WHERE e.id = j.id
RETURNING
    e.id::text, j.before < %(suspend_after)s AND j.failures >= %(suspend_after)s AS suspended,
    j.before >= %(suspend_after)s AND j.failures = 0 AS recovered, j.gone, j.failure;

-- name: hasten_webhook_deliveries
-- Make waiting deliveries to an endpoint due, a limited number: it answers again, or was changed.
UPDATE webhook_deliveries
SET due_at = now()
WHERE (endpoint_id, order_id, sequence) IN (
    SELECT endpoint_id, order_id, sequence
    FROM webhook_deliveries
    WHERE endpoint_id = %(id)s::uuid AND due_at > now()
    ORDER BY due_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING true;

-- name: hasten_all_webhook_deliveries
-- PostgreSQL's clock has jumped back: make due what waits for a time that was set before, a limited number. Leases
-- end as if they had been taken now.
WITH endpoints AS (
    UPDATE webhook_endpoints SET retry_at = now() WHERE retry_at > now()
),
waiting AS (
    SELECT endpoint_id, order_id, sequence
    FROM webhook_deliveries
    WHERE due_at > now() OR leased_until > now() + %(lease_s)s * interval '1 second'
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries AS d
SET
    due_at = least(d.due_at, now()),
    leased_until = CASE
        WHEN d.leased_until IS NOT NULL THEN least(d.leased_until, now() + %(lease_s)s * interval '1 second')
    END
FROM waiting AS w
WHERE d.endpoint_id = w.endpoint_id AND d.order_id = w.order_id AND d.sequence = w.sequence
RETURNING true;

-- name: give_up_webhook_deliveries
-- Delete deliveries that are too old, a limited number. Returns how many of each endpoint.
WITH old AS (
    SELECT endpoint_id, order_id, sequence
    FROM webhook_deliveries
    WHERE created_at < now() - %(older_than_s)s * interval '1 second'
        AND (leased_until IS NULL OR leased_until <= now())
    ORDER BY created_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
),
removed AS (
    DELETE FROM webhook_deliveries AS d
    USING old
    WHERE d.endpoint_id = old.endpoint_id AND d.order_id = old.order_id AND d.sequence = old.sequence
    RETURNING d.endpoint_id
),
tallies AS (
    SELECT endpoint_id, count(*)::integer AS given_up FROM removed GROUP BY endpoint_id
),
locked AS (
    SELECT e.id, t.given_up
    FROM tallies AS t
    JOIN webhook_endpoints AS e ON e.id = t.endpoint_id
    ORDER BY e.id
    FOR UPDATE OF e
),
counted AS (
    UPDATE webhook_endpoints AS e
    SET given_up = e.given_up + l.given_up
    FROM locked AS l
    WHERE e.id = l.id
)
SELECT endpoint_id::text, given_up FROM tallies;
