-- Idempotency keys. The key of a request that places an order is stored by insert_orders.

-- name: reserve_idempotency_key
-- Reserve a key for a request, for the process that handles it; or take it over from a process that has died.
-- Returns a row if it is reserved.
INSERT INTO idempotency_keys AS k (account, key, request_hash, created_at, owner, reservation)
VALUES (%(account)s, %(key)s, %(request_hash)s, now(), %(owner)s, %(reservation)s)
ON CONFLICT (account, key) DO UPDATE
SET owner = excluded.owner, reservation = excluded.reservation
WHERE k.status IS NULL
    AND k.request_hash = excluded.request_hash
    AND k.owner <> excluded.owner
    AND NOT EXISTS (SELECT 1 FROM instances AS i WHERE i.id = k.owner)
RETURNING true;

-- name: find_idempotency_key
-- Return what is stored under a key.
SELECT request_hash, order_id::text, status, response
FROM idempotency_keys
WHERE account = %(account)s AND key = %(key)s;

-- name: store_idempotent_response
-- Store the response of a request that has been handled.
UPDATE idempotency_keys
SET status = %(status)s, response = %(response)s
WHERE account = %(account)s AND key = %(key)s AND reservation = %(reservation)s AND status IS NULL;

-- name: release_idempotency_key
-- Delete the key of a request that changed nothing, so that it can be sent again.
DELETE FROM idempotency_keys
WHERE account = %(account)s AND key = %(key)s AND reservation = %(reservation)s AND status IS NULL;

-- name: delete_old_idempotency_keys
-- Delete keys that are older than a day, a limited number. Returns one row for each.
DELETE FROM idempotency_keys
WHERE (account, key) IN (
    SELECT account, key
    FROM idempotency_keys
    WHERE created_at < now() - interval '24 hours'
    ORDER BY created_at
    LIMIT %(most)s
    FOR UPDATE SKIP LOCKED
)
RETURNING true;
