-- Lists of an account's orders by the beginning of their client order ids. Neither column ever changes.
CREATE INDEX orders_by_client_order_id ON orders (account, client_order_id text_pattern_ops)
WHERE client_order_id IS NOT NULL;
