-- The length of the market's slots. Slot numbers are kept in pools and transactions, and numbers that were
-- counted in slots of two lengths cannot be compared. Null until the next start says it.
ALTER TABLE paper_market
    ADD COLUMN slot_ms integer,
    ADD CONSTRAINT paper_market_slot CHECK (slot_ms > 0);
