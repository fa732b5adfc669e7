-- What a landed transaction of the paper market left in the wallet of tokens between its legs. docs/schema.md explains
-- it. A leader of an earlier version writes none.

ALTER TABLE paper_transactions ADD COLUMN residue jsonb;  -- as in orders; null if nothing
ALTER TABLE paper_transactions ADD CONSTRAINT paper_transactions_residue CHECK (residue IS NULL OR status = 'landed')
NOT VALID;
