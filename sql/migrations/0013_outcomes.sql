-- What transactions cost and what became of them, as a venue on a chain reports it. docs/schema.md explains every
-- column. Instances of an earlier version write none of them; they are null then, and in rows that exist.

ALTER TABLE transactions
    ADD COLUMN blockhash_slot bigint,   -- of the blockhash that it names; null if the venue has none
    ADD COLUMN settled_at timestamptz,  -- when its outcome was recorded
    ADD COLUMN slot bigint,             -- in which it was executed, also if it failed
    ADD COLUMN network_fee bigint,      -- lamports
    ADD COLUMN tip bigint,              -- lamports
    ADD COLUMN rent bigint,             -- lamports, in new token accounts
    ADD COLUMN error text;              -- why it did not trade

ALTER TABLE transactions ADD CONSTRAINT transactions_settled CHECK (
    settled_at IS NOT NULL
    OR slot IS NULL AND network_fee IS NULL AND tip IS NULL AND rent IS NULL AND error IS NULL
) NOT VALID;
ALTER TABLE transactions ADD CONSTRAINT transactions_cost CHECK (
    network_fee >= 0 AND tip >= 0 AND rent >= 0
    AND (network_fee IS NULL) = (tip IS NULL) AND (network_fee IS NULL) = (rent IS NULL)
) NOT VALID;

-- A row is updated once, when its outcome is recorded. With room on its page no index is written.
ALTER TABLE transactions SET (fillfactor = 50);

ALTER TABLE orders
    ADD COLUMN network_cost numeric(20, 0),  -- lamports that all its transactions have cost
    ADD COLUMN residue jsonb;                -- what its fill left of the tokens between its legs
ALTER TABLE orders ADD CONSTRAINT orders_network_cost CHECK (network_cost >= 0) NOT VALID;
ALTER TABLE orders ADD CONSTRAINT orders_residue CHECK (residue IS NULL OR status = 'confirmed') NOT VALID;
