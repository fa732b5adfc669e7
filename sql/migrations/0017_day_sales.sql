-- The limits of what all orders sell in a day, and orders that are only simulated. docs/schema.md explains every
-- column.

ALTER TABLE orders DROP CONSTRAINT orders_mode;
ALTER TABLE orders ADD CONSTRAINT orders_mode CHECK (mode IN ('paper', 'simulate', 'live')) NOT VALID;

-- Null in rows that exist: they count towards no limit. Instances of an earlier version write it by the default.
ALTER TABLE transactions ADD COLUMN signed_at timestamptz;
ALTER TABLE transactions ALTER COLUMN signed_at SET DEFAULT now();
-- Without the rows that exist: nothing of them is sorted or written while this migration locks the tables.
CREATE INDEX transactions_signed ON transactions (signed_at) WHERE signed_at IS NOT NULL;
-- Otherwise the planner would take a third of all rows for those of a day, and read both tables whole, until a tenth of
-- the rows are new.
ANALYZE transactions (signed_at);

CREATE FUNCTION sold_in_a_day(tokens text[]) RETURNS TABLE (token text, amount numeric)
LANGUAGE sql STABLE
AS $$
    SELECT o.token_in, sum(CASE WHEN o.tx_hash = t.id THEN o.amount_in ELSE t.maximum_in END)
    FROM transactions AS t
    JOIN orders AS o ON o.id = t.order_id
    WHERE t.signed_at > now() - interval '24 hours'
        AND o.token_in = ANY (tokens)
        AND (o.tx_hash = t.id OR o.status = 'submitted' AND t.sequence = o.version)
    GROUP BY o.token_in
$$;

COMMENT ON FUNCTION sold_in_a_day IS
'What transactions that were signed in the last 24 hours sold, or, in flight, may sell at most: base units by token.';

CREATE FUNCTION over_day_limits(selling jsonb, day_limits jsonb)
RETURNS TABLE (order_id uuid, token text, sold numeric)
LANGUAGE plpgsql STRICT VOLATILE
-- A session would otherwise keep the plans that it made while the tables were small, which read them whole.
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    candidate record;
    sold_of   jsonb;  -- by token
BEGIN
    -- One group at a time, on all instances, until its transaction ends: "OEE" in ASCII and two. In a volatile
    -- function each statement sees what was committed before it began, so all that the groups before have stored.
    PERFORM pg_advisory_xact_lock(x'4f454502'::integer);
    SELECT coalesce(jsonb_object_agg(s.token, s.amount), '{}')
    INTO sold_of
    FROM sold_in_a_day(ARRAY(SELECT jsonb_object_keys(day_limits))) AS s;

    FOR candidate IN
        -- What is stored already is at another version, and counted above.
        SELECT
            c.id, o.token_in, c.amount, (day_limits ->> o.token_in)::numeric AS most,
            p.owner IS NOT NULL AS is_owned
        FROM jsonb_to_recordset(selling) AS c (id uuid, version integer, owner uuid, amount numeric)
        JOIN orders AS o ON o.id = c.id AND o.version = c.version
        LEFT JOIN open_orders AS p ON p.order_id = c.id
            AND p.owner = c.owner
            AND (p.expires_at IS NULL OR p.expires_at > now())
        WHERE day_limits ? o.token_in
        ORDER BY c.id
    LOOP
        order_id := candidate.id;
        IF NOT candidate.is_owned THEN
            -- It was released while this waited for the lock. The calling statement, which began before, may not see
            -- that, and must not store what was not compared.
            token := NULL;
            sold := NULL;
            RETURN NEXT;
            CONTINUE;
        END IF;
        sold := coalesce((sold_of ->> candidate.token_in)::numeric, 0);
        IF sold + candidate.amount > candidate.most THEN
            token := candidate.token_in;
            RETURN NEXT;
        ELSE
            sold_of := sold_of || jsonb_build_object(candidate.token_in, sold + candidate.amount);
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION over_day_limits IS
'The orders whose transactions may not be stored, because all orders together would sell too much of a token: the token,
and what was sold of it in the last 24 hours; neither for an order that is no longer the writer''s, or has expired.';
