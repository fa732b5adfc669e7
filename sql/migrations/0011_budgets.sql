-- Budgets of API keys, and whether an order trades real money. docs/schema.md explains every column.

-- All orders of earlier versions trade on the paper market.
ALTER TABLE orders ADD COLUMN mode text NOT NULL DEFAULT 'paper';
ALTER TABLE orders ADD CONSTRAINT orders_mode CHECK (mode IN ('paper', 'live')) NOT VALID;

-- The key that placed the order, and what the order uses of the key's budgets, to be given back if it ends unfilled.
-- An order of an earlier version uses nothing.
ALTER TABLE open_orders
    ADD COLUMN key_id text,
    ADD COLUMN used_token text,
    ADD COLUMN used_amount numeric(20, 0),
    ADD COLUMN used_usd numeric(40, 0);
CREATE INDEX open_orders_by_key ON open_orders (key_id) WHERE key_id IS NOT NULL;

-- What the orders of a key have used, by minute. Only statements that have locked the key change its rows.
CREATE TABLE key_usage (
    key_id text NOT NULL,
    minute timestamptz NOT NULL,
    token  text NOT NULL,           -- the token whose amount the orders fix
    amount numeric(40, 0) NOT NULL, -- base units, of the orders under a limit of this amount
    usd    numeric(40, 0) NOT NULL, -- millionths of a dollar, of the orders under a limit in dollars
    PRIMARY KEY (key_id, minute, token),
    CONSTRAINT key_usage_not_negative CHECK (amount >= 0 AND usd >= 0)
) WITH (fillfactor = 50);
CREATE INDEX key_usage_minute ON key_usage (minute);

-- What ended orders give back, until a later order of the key takes it off key_usage. So a statement that ends orders
-- need not lock keys.
CREATE TABLE key_refunds (
    key_id text NOT NULL,
    minute timestamptz NOT NULL,
    token  text NOT NULL,
    amount numeric(40, 0) NOT NULL,
    usd    numeric(40, 0) NOT NULL
);
CREATE INDEX key_refunds_key ON key_refunds (key_id);

CREATE FUNCTION usage_begins() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN date_trunc('minute', now() - interval '24 hours');

COMMENT ON FUNCTION usage_begins IS 'The first minute of key_usage that counts: the one in which the 24 hours begin.';

CREATE FUNCTION give_back(key text, placed_at timestamptz, token text, amount numeric, usd numeric) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    INSERT INTO key_refunds
    VALUES (key, date_trunc('minute', placed_at), token, coalesce(amount, 0), coalesce(usd, 0));
END
$$;

COMMENT ON FUNCTION give_back IS 'Gives back what an order has used of the budgets of its key.';

CREATE FUNCTION budget_verdicts(new_orders jsonb)
RETURNS TABLE (order_id uuid, verdict text, used numeric)
LANGUAGE plpgsql STRICT VOLATILE
-- A session would otherwise keep the plans that it made while the tables were small, which read them whole.
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    candidate    record;
    current_key  text;
    used_amounts jsonb;    -- by token, in 24 hours
    used_amount  numeric;
    used_usd     numeric;
    open_before  integer;  -- null: not counted yet
    admitted     integer;  -- orders of this key in this group
    client_ids   text[];   -- theirs
    keys         text[];   -- the idempotency keys that this group stores for this key
BEGIN
    -- One group of a key at a time, on all instances. In a volatile function each statement sees what was committed
    -- before it began: after this one, all that the groups before have used.
    PERFORM k.id
    FROM api_keys AS k
    WHERE k.id IN (SELECT c.key_id FROM jsonb_to_recordset(new_orders) AS c (key_id text))
    ORDER BY k.id
    FOR NO KEY UPDATE;

    FOR candidate IN
        SELECT
            c.*,
            -- Not EXISTS, whose plan may be to read the whole table into a hash.
            coalesce(
                (SELECT true FROM orders AS o WHERE o.id = c.id),
                (
                    SELECT true FROM idempotency_keys AS i
                    WHERE i.account = c.account AND i.key = c.idempotency_key
                ),
                false
            ) AS is_stored,
            coalesce((
                SELECT true FROM client_orders AS n
                WHERE n.account = c.account AND n.client_order_id = c.client_order_id
            ), false) AS is_named
        FROM jsonb_to_recordset(new_orders) AS c (
            place integer, id uuid, account text, key_id text, client_order_id text, idempotency_key text,
            token text, amount numeric, most_amount numeric, usd numeric, most_usd numeric, most_open integer
        )
        ORDER BY c.key_id, c.place
    LOOP
        IF candidate.key_id IS DISTINCT FROM current_key THEN
            current_key := candidate.key_id;
            -- Not those of this minute: the statement that calls this function is going to change that row itself.
            WITH refunds AS (
                DELETE FROM key_refunds AS r
                WHERE r.key_id = current_key AND r.minute <> date_trunc('minute', now())
                RETURNING r.minute, r.token, r.amount, r.usd
            )
            UPDATE key_usage AS u
            SET amount = u.amount - s.amount, usd = u.usd - s.usd
            FROM (
                SELECT r.minute, r.token, sum(r.amount) AS amount, sum(r.usd) AS usd
                FROM refunds AS r
                GROUP BY r.minute, r.token
            ) AS s
            WHERE u.key_id = current_key AND u.minute = s.minute AND u.token = s.token;
            SELECT coalesce(jsonb_object_agg(t.token, t.amount), '{}'), coalesce(sum(t.usd), 0)
            INTO used_amounts, used_usd
            FROM (
                SELECT e.token, sum(e.amount) AS amount, sum(e.usd) AS usd
                FROM (
                    SELECT u.minute, u.token, u.amount, u.usd
                    FROM key_usage AS u
                    WHERE u.key_id = current_key
                    UNION ALL
                    SELECT r.minute, r.token, -r.amount, -r.usd
                    FROM key_refunds AS r
                    WHERE r.key_id = current_key
                ) AS e
                WHERE e.minute >= usage_begins()
                GROUP BY e.token
            ) AS t;
            open_before := NULL;
            admitted := 0;
            client_ids := '{}';
            keys := '{}';
        END IF;
        IF candidate.most_open IS NOT NULL AND open_before IS NULL THEN
            SELECT count(*) INTO open_before FROM open_orders AS p WHERE p.key_id = current_key;
        END IF;
        used_amount := coalesce((used_amounts ->> candidate.token)::numeric, 0);

        order_id := candidate.id;
        used := NULL;
        -- A comparison with null, which is no limit, is not true.
        IF candidate.is_stored OR candidate.idempotency_key = ANY (keys) THEN
            verdict := 'repeated';
        ELSIF candidate.is_named OR candidate.client_order_id = ANY (client_ids) THEN
            verdict := 'named';
        ELSIF open_before + admitted >= candidate.most_open THEN
            verdict := 'maxOpenOrders';
            used := open_before + admitted;
        ELSIF used_amount + candidate.amount > candidate.most_amount THEN
            verdict := 'maxAmountPerDay';
            used := used_amount;
        ELSIF used_usd + candidate.usd > candidate.most_usd THEN
            verdict := 'maxUsdPerDay';
            used := used_usd;
        ELSE
            verdict := 'new';
            admitted := admitted + 1;
            used_usd := used_usd + coalesce(candidate.usd, 0);
            IF candidate.amount IS NOT NULL THEN
                used_amounts := used_amounts
                    || jsonb_build_object(candidate.token, used_amount + candidate.amount);
            END IF;
            IF candidate.client_order_id IS NOT NULL THEN
                client_ids := client_ids || candidate.client_order_id;
            END IF;
        END IF;
        IF verdict IN ('new', 'named') AND candidate.idempotency_key IS NOT NULL THEN
            keys := keys || candidate.idempotency_key;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION budget_verdicts IS
'Whether orders that are about to be inserted keep the budgets of their API keys. The verdicts:
new: it keeps them, and uses its amounts;
repeated: its id or its idempotency key is stored, or the group stores that key for another order;
named: its client order id is stored, or an admitted order of the group has it, so it is not inserted;
otherwise the limit that it does not keep, and how much of that is used.';
