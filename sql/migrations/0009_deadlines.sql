-- Market and sniper orders may expire as well; and an order may have to be submitted sooner than it expires.

ALTER TABLE orders
    DROP CONSTRAINT orders_expiry,
    ADD CONSTRAINT orders_expiry CHECK (
        order_type <> 'limit' OR (time_in_force = 'GTD') = (expires_at IS NOT NULL)
    );

-- From now on open_orders.expires_at is the time after which nothing of the order is submitted: the order's own,
-- or an earlier one. Orders that were to be filled at once have one too.
UPDATE open_orders AS p
SET expires_at = p.created_at + interval '1.5 seconds'
FROM orders AS o
WHERE o.id = p.order_id AND o.time_in_force IN ('IOC', 'FOK');
