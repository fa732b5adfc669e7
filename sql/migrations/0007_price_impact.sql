-- The highest price impact of an order's route, in basis points, by the API keys that placed and amended it; null: any.
-- Orders that exist have none, so they are not checked.
ALTER TABLE orders ADD COLUMN max_price_impact_bps integer;
ALTER TABLE orders ADD CONSTRAINT orders_price_impact
    CHECK (max_price_impact_bps BETWEEN 0 AND 10000) NOT VALID;
