-- The slot in which a transaction landed: by the ledger's clock, in the statement that books it.
ALTER TABLE paper_transactions
    ADD COLUMN landed_slot bigint,  -- null also: landed before this was noted
    ADD CONSTRAINT paper_transactions_landed_slot CHECK (landed_slot IS NULL OR status = 'landed');
