-- What all orders sell in a day. append_transitions decides by the function over_day_limits.

-- name: get_sold_in_a_day
-- Return what was sold of tokens in the last 24 hours, in base units; no row for one of which nothing was.
SELECT token, amount FROM sold_in_a_day(%(tokens)s::text[]);
