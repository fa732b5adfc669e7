-- Orders that await approval. docs/schema.md explains the column.

-- Until when an order may be approved; null: it awaits no approval. Instances of earlier versions never set it, and
-- whatever they do, an order that awaits approval neither rests nor is due: none of them can fire or start it.
ALTER TABLE open_orders ADD COLUMN approve_by timestamptz;
ALTER TABLE open_orders ADD CONSTRAINT open_orders_approval CHECK (
    approve_by IS NULL
    OR NOT resting AND NOT started AND owner IS NULL AND fired IS NULL AND due_at = 'infinity'
) NOT VALID;
-- For lists of those that await approval, however many others rest.
CREATE INDEX open_orders_awaiting ON open_orders (created_at DESC, order_id DESC) WHERE approve_by IS NOT NULL;

-- An order that does not rest is open only while it awaits approval, and until it then starts. The new constraint
-- allows more than the old one, so the existing rows need no check.
ALTER TABLE orders DROP CONSTRAINT orders_open;
ALTER TABLE orders ADD CONSTRAINT orders_open CHECK (
    status <> 'open'
    OR order_type = 'sniper'
    OR order_type = 'limit' AND time_in_force IN ('GTC', 'GTD')
    OR status_history -> 1 ? 'awaitingApproval'
) NOT VALID;
