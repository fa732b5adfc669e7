-- The journal's writes. Each statement takes a group of rows as one JSON array, is its own transaction, and can
-- be repeated: no row is written twice.

-- name: insert_orders
-- Insert orders, each with its row in open_orders, its client order id and its idempotency key. One that rests, or
-- that must be approved (approve_within_s), is open at once. If its client order id or its key is taken, or trading is
-- halted, an order is not inserted; the caller reads the existing one, or why trading is halted.
WITH wanted AS (
    SELECT *, 'new' AS verdict
    FROM /* include: new_orders */
    WHERE /* include: trading */
),
/* include: inserted_orders */,
/* include: recorded */,
/* include: notified */,
/* include: opened_orders */
SELECT id::text, rfc3339(created_at) AS created_at FROM inserted;

-- name: insert_budgeted_orders
-- insert_orders for a group with orders whose API keys have budgets, which a second array lists. One of them that
-- does not keep its budgets is not inserted: it is returned with the limit, and how much of that is used. The others
-- are counted. An undecided one takes nothing: whether it is inserted is known once the group is.
WITH sent AS (
    SELECT *
    FROM /* include: new_orders */
    WHERE /* include: trading */
),
judged AS (
    SELECT order_id, verdict, used FROM budget_verdicts(%(budgets)s::jsonb)
),
decided AS (
    SELECT s.*, j.used, CASE
        -- Only another order of the group has its client order id, and that one is not inserted if it loses its
        -- idempotency key to a request of another API key.
        WHEN j.verdict = 'named' AND (
            SELECT true
            FROM client_orders AS n
            WHERE n.account = s.account AND n.client_order_id = s.client_order_id
        ) IS NULL THEN 'undecided'
        ELSE coalesce(j.verdict, 'new')
    END AS verdict
    FROM sent AS s
    LEFT JOIN judged AS j ON j.order_id = s.id
),
wanted AS (
    -- One whose client order id is taken still takes its idempotency key.
    SELECT * FROM decided WHERE verdict IN ('new', 'named')
),
/* include: inserted_orders */,
/* include: recorded */,
/* include: notified */,
/* include: opened_orders */,
counted AS (
    INSERT INTO key_usage AS u (key_id, minute, token, amount, usd)
    SELECT
        key_id, date_trunc('minute', created_at), used_token, sum(coalesce(used_amount, 0)),
        sum(coalesce(used_usd, 0))
    FROM opened
    WHERE used_token IS NOT NULL
    GROUP BY 1, 2, 3
    ON CONFLICT (key_id, minute, token) DO UPDATE
    SET amount = u.amount + excluded.amount, usd = u.usd + excluded.usd
)
SELECT id::text, rfc3339(created_at) AS created_at, NULL AS rule, NULL::numeric AS used FROM inserted
UNION ALL
SELECT id::text, NULL, verdict, used FROM decided WHERE verdict NOT IN ('new', 'named', 'repeated');

-- fragment: new_orders
-- The orders of a group.
jsonb_to_recordset(%(rows)s::jsonb) AS row (
    id uuid, account text, client_order_id text, label text, order_type text, token_in text, token_out text,
    swap_mode text, amount numeric, amount_text text, slippage_bps integer, time_in_force text,
    limit_price text, limit_out numeric, sniper_conditions jsonb, expires_at timestamptz,
    submit_by timestamptz, decimals_in integer, decimals_out integer, opens boolean, approve_within_s integer,
    write_id text, idempotency_key text, request_hash text, max_price_impact_bps integer, mode text, key_id text,
    used_token text, used_amount numeric, used_usd numeric
)

-- fragment: inserted_orders
-- Insert the ``wanted`` orders.
keyed AS (
    -- If only the client order id turns out to be taken, this row stays, without an order: the request is known,
    -- and its response follows from the client order id.
    INSERT INTO idempotency_keys (account, key, request_hash, created_at, order_id)
    SELECT account, idempotency_key, decode(request_hash, 'hex'), now(), id
    FROM wanted
    WHERE idempotency_key IS NOT NULL
    ORDER BY account, idempotency_key
    ON CONFLICT DO NOTHING
    RETURNING order_id
),
named AS (
    INSERT INTO client_orders (account, client_order_id, order_id)
    SELECT account, client_order_id, id
    FROM wanted
    -- All groups take the keys first, so that none waits for another that waits for it. Only this reads all of keyed.
    WHERE (SELECT count(*) FROM keyed) >= 0
        AND client_order_id IS NOT NULL
        AND verdict = 'new'
        AND (idempotency_key IS NULL OR id IN (SELECT order_id FROM keyed))
    ORDER BY account, client_order_id
    ON CONFLICT DO NOTHING
    RETURNING order_id
),
inserted AS (
    INSERT INTO orders (
        id, account, client_order_id, label, order_type, token_in, token_out, swap_mode, amount, amount_text,
        slippage_bps, time_in_force, limit_price, limit_out, sniper_conditions, expires_at, decimals_in,
        decimals_out, mode, status, version, status_history, created_at, updated_at, max_price_impact_bps
    )
    SELECT
        id, account, client_order_id, label, order_type, token_in, token_out, swap_mode, amount, amount_text,
        slippage_bps, time_in_force, limit_price, limit_out, sniper_conditions, expires_at, decimals_in,
        decimals_out, mode,
        CASE WHEN opens THEN 'open' ELSE 'pending' END,
        CASE WHEN opens THEN 2 ELSE 1 END,
        CASE WHEN opens THEN appended(first, 'open', now(), jsonb_build_object('writeId', write_id) || CASE
            WHEN approve_within_s IS NULL THEN '{}'::jsonb ELSE '{"awaitingApproval": true}'
        END) ELSE first END,
        now(), now(), max_price_impact_bps
    FROM wanted
    CROSS JOIN LATERAL appended('[]', 'pending', now(), jsonb_build_object('writeId', write_id)) AS first
    WHERE (idempotency_key IS NULL OR id IN (SELECT order_id FROM keyed))
        AND (client_order_id IS NULL OR id IN (SELECT order_id FROM named))
        AND verdict = 'new'
    ON CONFLICT (id) DO NOTHING
    RETURNING id, account, order_type, label, created_at, status = 'open' AS opens, expires_at
),
changed AS (
    SELECT id, account, order_type, label, 'pending' AS status, 1 AS version FROM inserted
    UNION ALL
    SELECT id, account, order_type, label, 'open', 2 FROM inserted WHERE opens
)

-- fragment: opened_orders
-- Store that the ``inserted`` orders of the ``wanted`` ones are open.
sorted AS (
    SELECT
        i.id, i.account, i.created_at, i.opens, now() + w.approve_within_s * interval '1 second' AS approve_by,
        least(i.expires_at, w.submit_by, now() + w.approve_within_s * interval '1 second') AS expires_at,
        w.key_id, w.used_token, w.used_amount, w.used_usd, w.order_type, w.token_in, w.token_out,
        order_kind(i.account, w.order_type, w.token_in, w.token_out, NULL, NULL) AS kind
    FROM inserted AS i
    JOIN wanted AS w ON w.id = i.id
),
kinds AS (
    INSERT INTO order_kinds (id, account, order_type, token_in, token_out)
    SELECT DISTINCT s.kind, s.account, s.order_type, s.token_in, s.token_out
    FROM sorted AS s
    WHERE NOT EXISTS (SELECT 1 FROM order_kinds AS k WHERE k.id = s.kind)
    ORDER BY s.kind
    ON CONFLICT DO NOTHING
),
opened AS (
    -- The insert's own wake-up is in flight: the sweep sends another only when it is late.
    INSERT INTO open_orders (
        order_id, account, created_at, due_at, wake_at, resting, rested_at, rested_version, approve_by, expires_at,
        key_id, used_token, used_amount, used_usd, kind
    )
    SELECT
        i.id, i.account, i.created_at,
        CASE WHEN i.opens THEN 'infinity' ELSE now() END,
        CASE WHEN i.opens THEN 'infinity' ELSE now() + %(wake_after_ms)s * interval '1 millisecond' END,
        i.opens AND i.approve_by IS NULL,
        CASE WHEN i.opens THEN now() END,
        CASE WHEN i.opens THEN 2 END,
        i.approve_by,
        i.expires_at,
        i.key_id, i.used_token, i.used_amount, i.used_usd,
        i.kind
    FROM sorted AS i
    RETURNING key_id, created_at, used_token, used_amount, used_usd
)

-- name: append_transitions
-- Append one transition to each order, if it is still at the version that its writer read and belongs to it.
-- A new transaction is not stored while trading is halted, nor for a process that may have been declared dead; an
-- order that has expired is neither built nor submitted. One with which all orders together would sell too much in a
-- day (day_limits) is not stored either: its order is returned without an entry, with the token and what was sold of
-- it; without these, if the order was released while this statement waited. An attempt that fails ends its order as
-- cancelled if that was requested, and as expired if it has expired. The step's data (quotes, a transaction, its
-- outcome, a fill, an end) is written for the rows that moved.
WITH over_limit AS (
    SELECT order_id, token, sold FROM over_day_limits(%(selling)s::jsonb, %(day_limits)s::jsonb)
),
wanted AS (
    SELECT *
    FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (
        id uuid, version integer, owner uuid, status text, detail jsonb, retry_in_ms integer,
        quotes jsonb, route jsonb, transaction jsonb, quoted_in numeric, quoted_out numeric,
        amount_in numeric, amount_out numeric, tx_hash text, outcome jsonb,
        decimals_out integer
    )
    -- All else reads these rows: while it waits for the groups before, this statement has locked no order.
    WHERE id <> ALL (ARRAY(SELECT order_id FROM over_limit))
),
locked AS (
    -- A cancellation writes this row first and then reads the status: with the row locked, either this
    -- statement sees the request, or the cancellation sees the new status.
    SELECT p.order_id, p.cancel_requested, p.expires_at
    FROM wanted AS w
    JOIN open_orders AS p ON p.order_id = w.id
    WHERE w.status IN ('pending', 'open', 'failed', 'expired')
    ORDER BY p.order_id
    FOR UPDATE OF p
),
steps AS (
    SELECT
        w.id, w.version, w.owner, w.quotes, w.route, w.transaction, w.quoted_in, w.quoted_out,
        w.amount_in, w.amount_out, w.tx_hash, w.outcome,
        CASE
            WHEN l.cancel_requested THEN 'cancelled'
            WHEN l.expires_at <= now() THEN 'expired'
            ELSE w.status
        END AS status,
        w.retry_in_ms, w.detail, w.decimals_out
    FROM wanted AS w
    LEFT JOIN locked AS l ON l.order_id = w.id
),
moved AS (
    UPDATE orders AS o
    SET
        status = w.status,
        version = o.version + 1,
        updated_at = greatest(o.updated_at, now()),
        status_history = appended(
            o.status_history, w.status, greatest(o.updated_at, now()),
            CASE WHEN w.status = 'pending' THEN w.detail || jsonb_build_object(
                'nextTryAt', rfc3339(now() + w.retry_in_ms * interval '1 millisecond')
            ) ELSE w.detail END
        ),
        quoted_in = coalesce(w.quoted_in, o.quoted_in),
        quoted_out = coalesce(w.quoted_out, o.quoted_out),
        amount_in = w.amount_in,
        amount_out = w.amount_out,
        tx_hash = w.tx_hash,
        network_cost = CASE
            WHEN w.outcome ? 'cost' THEN coalesce(o.network_cost, 0) + (w.outcome ->> 'cost')::numeric
            ELSE o.network_cost
        END,
        residue = w.outcome -> 'residue',
        decimals_out = coalesce(o.decimals_out, w.decimals_out),
        venue = coalesce(w.detail ->> 'venue', o.venue)
    FROM steps AS w
    WHERE o.id = w.id
        AND o.version = w.version
        AND EXISTS (
            SELECT 1
            FROM open_orders AS p
            WHERE p.order_id = w.id
                AND p.owner = w.owner
                AND (
                    w.status NOT IN ('building', 'submitted')
                    OR p.expires_at IS NULL
                    OR p.expires_at > now()
                )
        )
        AND (w.transaction IS NULL OR EXISTS (
            SELECT 1
            FROM instances AS i
            WHERE i.id = w.owner
                AND i.seen_at > now() - %(instance_timeout_ms)s * interval '1 millisecond'
        ))
        AND (w.transaction IS NULL OR /* include: trading */)
    RETURNING
        o.id, o.account, o.order_type, o.label, o.version, o.created_at, o.status,
        o.status_history -> -1 AS entry, o.attempts, o.token_in, o.token_out, o.venue,
        w.retry_in_ms, w.quotes, w.route, w.transaction, w.outcome
),
changed AS (SELECT id, account, order_type, label, status, version FROM moved),
/* include: recorded */,
/* include: notified */,
quoted AS (
    INSERT INTO order_quotes (order_id, sequence, quotes, route)
    SELECT id, version, quotes, route FROM moved WHERE quotes IS NOT NULL
),
signed AS (
    INSERT INTO transactions (
        id, order_id, sequence, venue, raw, maximum_in, minimum_out, last_valid_slot, blockhash_slot
    )
    SELECT
        transaction ->> 'id', id, version, transaction ->> 'venue', decode(transaction ->> 'raw', 'base64'),
        (transaction ->> 'maximum_in')::numeric, (transaction ->> 'minimum_out')::numeric,
        (transaction ->> 'last_valid_height')::bigint, (transaction ->> 'blockhash_slot')::bigint
    FROM moved
    WHERE transaction IS NOT NULL
),
settled AS (
    -- The transaction of the entry before: an order whose outcome is recorded was submitted.
    UPDATE transactions AS t
    SET
        settled_at = now(),
        slot = (m.outcome ->> 'slot')::bigint,
        network_fee = (m.outcome ->> 'network_fee')::bigint,
        tip = (m.outcome ->> 'tip')::bigint,
        rent = (m.outcome ->> 'rent')::bigint,
        error = m.outcome ->> 'error'
    FROM moved AS m
    WHERE m.outcome IS NOT NULL AND t.order_id = m.id AND t.sequence = m.version - 1
),
waiting AS (
    UPDATE open_orders AS p
    SET
        owner = NULL,
        started = false,
        fired = NULL,
        due_at = now() + m.retry_in_ms * interval '1 millisecond',
        wake_at = now() + m.retry_in_ms * interval '1 millisecond'
    FROM moved AS m
    WHERE p.order_id = m.id AND m.status = 'pending'
),
rested AS (
    -- The pause before it may be fired again doubles from 1 s to 5 minutes.
    UPDATE open_orders AS p
    SET
        owner = NULL,
        started = false,
        fired = NULL,
        due_at = 'infinity',
        wake_at = 'infinity',
        resting = true,
        rested_at = now(),
        rested_version = m.version,
        not_before = now() + least(2 ^ least(p.returns, 16), 300) * interval '1 second',
        returns = p.returns + 1,
        attempts_before = m.attempts
    FROM moved AS m
    WHERE p.order_id = m.id AND m.status = 'open'
),
/* include: closed */
SELECT id::text, entry, NULL AS token, NULL::numeric AS sold FROM moved
UNION ALL
SELECT order_id::text, NULL, token, sold FROM over_limit;

-- fragment: recorded
-- Insert an event for each history entry of the orders that have ``changed``.
recorded AS (
    INSERT INTO order_events (account, order_id, version)
    SELECT account, id, version FROM changed ORDER BY id, version
)

-- fragment: closed
-- Of the orders that have ``moved``, move the ended ones from open_orders to finished_orders. One that ends unfilled
-- gives back what it uses of its key's budgets.
closed AS (
    DELETE FROM open_orders AS p
    USING moved AS m
    WHERE p.order_id = m.id AND m.status IN ('confirmed', 'failed', 'cancelled', 'expired')
    RETURNING CASE
        WHEN p.used_token IS NOT NULL AND m.status <> 'confirmed'
            THEN give_back(p.key_id, p.created_at, p.used_token, p.used_amount, p.used_usd)
    END
),
ended AS (
    SELECT
        id, account, created_at, order_type, token_in, token_out, status, venue,
        order_kind(account, order_type, token_in, token_out, status, venue) AS kind
    FROM moved
    WHERE status IN ('confirmed', 'failed', 'cancelled', 'expired')
),
kinds AS (
    INSERT INTO order_kinds (id, account, order_type, token_in, token_out, status, venue)
    SELECT DISTINCT e.kind, e.account, e.order_type, e.token_in, e.token_out, e.status, e.venue
    FROM ended AS e
    WHERE NOT EXISTS (SELECT 1 FROM order_kinds AS k WHERE k.id = e.kind)
    ORDER BY e.kind
    ON CONFLICT DO NOTHING
),
finished AS (
    INSERT INTO finished_orders (account, status, created_at, order_id, kind)
    SELECT account, status, created_at, id, kind FROM ended
)

-- name: read_entries_back
-- Return the history entries at the positions of uncertain transitions, to see whose they are.
SELECT o.id::text, o.status_history -> row.version AS entry
FROM jsonb_to_recordset(%(rows)s::jsonb) AS row (id uuid, version integer)
JOIN orders AS o ON o.id = row.id;
