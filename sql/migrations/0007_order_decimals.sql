-- The decimals of an order's tokens stand with the order: whoever shows it need not know the tokens.
ALTER TABLE orders
    ADD COLUMN decimals_in integer,
    ADD COLUMN decimals_out integer;  -- null until the token is listed: a sniper order may wait for it

WITH known (symbol, decimals) AS (
    SELECT symbol, decimals FROM paper_tokens
    UNION ALL
    VALUES ('SOL', 9), ('USDC', 6), ('USDT', 6), ('JUP', 6), ('RAY', 6), ('BONK', 5)
)
UPDATE orders AS o
SET
    decimals_in = (SELECT decimals FROM known WHERE symbol = o.token_in),
    decimals_out = (SELECT decimals FROM known WHERE symbol = o.token_out);
