-- Listing and delisting are commands, which the market's leader executes in its turn.

-- A row for each request, kept for an hour. The instance that took it waits for the answer.
CREATE TABLE paper_commands (
    id          uuid PRIMARY KEY,
    number      bigint GENERATED ALWAYS AS IDENTITY,  -- the order of arrival
    body        jsonb NOT NULL,
    answer      text,                                 -- null: it waits for the leader
    asked_at    timestamptz NOT NULL DEFAULT now(),
    answered_at timestamptz,
    CONSTRAINT paper_commands_answered CHECK ((answer IS NULL) = (answered_at IS NULL))
);
CREATE INDEX paper_commands_waiting ON paper_commands (number) WHERE answer IS NULL;

ALTER TABLE paper_pools
    ADD COLUMN origin text NOT NULL DEFAULT 'founded',  -- who has it here, and so who may delist it
    ADD COLUMN sequence bigint NOT NULL DEFAULT 0,      -- of the commit that changed it last
    ADD CONSTRAINT paper_pools_origin CHECK (origin IN (
        'founded',   -- by the market's beginning
        'listed',    -- on request
        'scheduled'  -- by itself, for demos
    ));
UPDATE paper_pools
SET origin = 'listed'
WHERE token_a NOT IN ('SOL', 'USDC', 'USDT', 'JUP', 'RAY', 'BONK')
    OR token_b NOT IN ('SOL', 'USDC', 'USDT', 'JUP', 'RAY', 'BONK');
