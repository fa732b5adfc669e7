-- Lists of orders by any of account, type, pair, DEX and final status. docs/schema.md explains every column.

ALTER TABLE orders ADD COLUMN venue text;  -- the DEX of the last route

-- What orders have in common that lists select by. There are few, and every list finds its own among them, so that
-- a list of orders that do not exist reads none.
CREATE TABLE order_kinds (
    id         uuid PRIMARY KEY,
    account    text NOT NULL,
    order_type text NOT NULL,
    token_in   text NOT NULL,
    token_out  text NOT NULL,
    status     text,  -- null: not ended
    venue      text   -- null until it has ended, or if it had no route
);
CREATE INDEX order_kinds_by_account ON order_kinds (account);

-- The id follows from the kind, so that a writer need not look it up.
CREATE FUNCTION order_kind(
    account text, order_type text, token_in text, token_out text, status text, venue text
) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN left(encode(sha256(convert_to(
    jsonb_build_array(account, order_type, token_in, token_out, status, venue)::text, 'UTF8'
)), 'hex'), 32)::uuid;

COMMENT ON FUNCTION order_kind IS 'The id of a kind of orders.';

ALTER TABLE open_orders ADD COLUMN kind uuid;
ALTER TABLE finished_orders ADD COLUMN kind uuid;

-- Instances of an older version write no kind. When their statement ends, the order can be read.
CREATE FUNCTION set_order_kind() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    ended boolean := TG_TABLE_NAME = 'finished_orders';
    wanted order_kinds;
BEGIN
    SELECT
        order_kind(
            o.account, o.order_type, o.token_in, o.token_out,
            CASE WHEN ended THEN o.status END, CASE WHEN ended THEN o.venue END
        ),
        o.account, o.order_type, o.token_in, o.token_out,
        CASE WHEN ended THEN o.status END, CASE WHEN ended THEN o.venue END
    INTO wanted
    FROM orders AS o
    WHERE o.id = NEW.order_id;
    INSERT INTO order_kinds SELECT wanted.* ON CONFLICT DO NOTHING;
    EXECUTE format('UPDATE %I SET kind = $1 WHERE order_id = $2', TG_TABLE_NAME) USING wanted.id, NEW.order_id;
    RETURN NULL;
END $$;

CREATE TRIGGER open_orders_kind AFTER INSERT ON open_orders
FOR EACH ROW WHEN (NEW.kind IS NULL) EXECUTE FUNCTION set_order_kind();
CREATE TRIGGER finished_orders_kind AFTER INSERT ON finished_orders
FOR EACH ROW WHEN (NEW.kind IS NULL) EXECUTE FUNCTION set_order_kind();

-- The orders that exist.
UPDATE orders AS o
SET venue = routed.venue
FROM (
    SELECT q.id, (
        SELECT entry ->> 'venue'
        FROM jsonb_array_elements(q.status_history) WITH ORDINALITY AS entries (entry, number)
        WHERE entry ? 'venue'
        ORDER BY number DESC
        LIMIT 1
    ) AS venue
    FROM orders AS q
) AS routed
WHERE routed.id = o.id AND routed.venue IS NOT NULL;

UPDATE open_orders AS p
SET kind = order_kind(o.account, o.order_type, o.token_in, o.token_out, NULL, NULL)
FROM orders AS o
WHERE o.id = p.order_id;

UPDATE finished_orders AS f
SET kind = order_kind(o.account, o.order_type, o.token_in, o.token_out, o.status, o.venue)
FROM orders AS o
WHERE o.id = f.order_id;

INSERT INTO order_kinds (id, account, order_type, token_in, token_out)
SELECT DISTINCT p.kind, o.account, o.order_type, o.token_in, o.token_out
FROM open_orders AS p
JOIN orders AS o ON o.id = p.order_id;

INSERT INTO order_kinds (id, account, order_type, token_in, token_out, status, venue)
SELECT DISTINCT f.kind, o.account, o.order_type, o.token_in, o.token_out, o.status, o.venue
FROM finished_orders AS f
JOIN orders AS o ON o.id = f.order_id;

-- Lists by the beginning of a client order id sort what they find, from the index alone.
DROP INDEX orders_by_client_order_id;
CREATE INDEX orders_by_client_order_id ON orders (account, client_order_id text_pattern_ops)
INCLUDE (created_at, id) WHERE client_order_id IS NOT NULL;

-- Accounts may use the same labels.
CREATE INDEX orders_by_account_label ON orders (account, label, created_at DESC, id DESC) WHERE label IS NOT NULL;

CREATE INDEX open_orders_by_kind ON open_orders (kind, created_at DESC, order_id DESC);
CREATE INDEX finished_orders_by_kind ON finished_orders (kind, created_at DESC, order_id DESC);
