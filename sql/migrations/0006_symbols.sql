-- Symbols are unique without regard to case: to people USDC and usdc are one token. Look-alikes that were
-- listed before stay, because orders were made with them.

ALTER TABLE paper_tokens ADD COLUMN look_alike boolean NOT NULL DEFAULT false;
UPDATE paper_tokens AS t
SET look_alike = true
FROM paper_tokens AS first
WHERE lower(first.symbol COLLATE "C") = lower(t.symbol COLLATE "C")
    AND first.symbol COLLATE "C" < t.symbol COLLATE "C";

CREATE UNIQUE INDEX paper_tokens_symbol ON paper_tokens (lower(symbol COLLATE "C")) WHERE NOT look_alike;

-- The tokens that were always there have no row.
ALTER TABLE paper_tokens ADD CONSTRAINT paper_tokens_not_founded CHECK (
    lower(symbol COLLATE "C") NOT IN ('sol', 'usdc', 'usdt', 'jup', 'ray', 'bonk')
) NOT VALID;
