-- Whether an order trades real money. docs/schema.md explains every column.

-- All orders of earlier versions trade on the paper market.
ALTER TABLE orders ADD COLUMN mode text NOT NULL DEFAULT 'paper';
ALTER TABLE orders ADD CONSTRAINT orders_mode CHECK (mode IN ('paper', 'live')) NOT VALID;
