-- Which venue the orders belong to. docs/schema.md explains every column.

CREATE TABLE venue_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    kind     text NOT NULL,
    market   text NOT NULL,
    wallet   text NOT NULL,
    starts   bigint NOT NULL DEFAULT 1,  -- how often an instance has agreed: each start changes the row
    since    timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 20);

-- Until now the paper market was the only venue.
INSERT INTO venue_identity (kind, market, wallet)
SELECT 'paper', seed::text, 'user' FROM paper_market;
