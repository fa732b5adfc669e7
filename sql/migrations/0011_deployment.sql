-- Which deployment this database belongs to: its id stands in every name that its instances share in Redis.

CREATE TABLE deployment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id       uuid NOT NULL
);
