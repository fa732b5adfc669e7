-- API keys, and tickets for WebSockets.

-- name: create_api_key
-- Store a new key; expires_in_s is null if it never expires.
INSERT INTO api_keys (id, account, name, scope, secret_hash, created_at, expires_at, changed_at, limits)
VALUES (
    %(id)s, %(account)s, %(name)s, %(scope)s, %(secret_hash)s, now(),
    now() + %(expires_in_s)s * interval '1 second', now(), %(limits)s::jsonb
);

-- name: get_changed_api_keys
-- Return PostgreSQL's time, and the keys that have changed since a time (null: all); without any, one row of nulls.
SELECT
    extract(epoch FROM now())::float8 AS now, k.id, k.account, k.name, k.scope, k.secret_hash, k.previous_hash,
    extract(epoch FROM k.previous_until)::float8 AS previous_until,
    extract(epoch FROM k.created_at)::float8 AS created_at,
    extract(epoch FROM k.expires_at)::float8 AS expires_at,
    extract(epoch FROM k.revoked_at)::float8 AS revoked_at, k.limits
FROM (SELECT 1) AS one
LEFT JOIN api_keys AS k ON k.changed_at > coalesce(to_timestamp(%(since)s), '-infinity');

-- name: rotate_api_key
-- Replace the secret of an active key; the old one stays valid for a while. Returns the id if it was replaced.
UPDATE api_keys
SET
    previous_hash = secret_hash,
    previous_until = now() + %(overlap_s)s * interval '1 second',
    secret_hash = %(secret_hash)s,
    changed_at = now()
WHERE id = %(id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id;

-- name: revoke_api_key
-- Revoke a key. Returns the id if it exists; a key that was revoked before stays as it is.
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, now()), changed_at = now()
WHERE id = %(id)s
RETURNING id;

-- name: set_api_key_limits
-- Replace a key's limits. Returns the id if it exists.
UPDATE api_keys
SET limits = %(limits)s::jsonb, changed_at = now()
WHERE id = %(id)s
RETURNING id;

-- name: create_stream_ticket
-- Store a ticket, and delete those that have expired.
WITH expired AS (
    DELETE FROM stream_tickets
    WHERE ticket_hash IN (
        SELECT ticket_hash FROM stream_tickets WHERE expires_at < now() ORDER BY expires_at LIMIT 100
    )
)
INSERT INTO stream_tickets (ticket_hash, key_id, expires_at)
VALUES (%(ticket_hash)s, %(key_id)s, now() + %(valid_s)s * interval '1 second');

-- name: use_stream_ticket
-- Delete a ticket; return its key if the ticket was still valid.
WITH used AS (
    DELETE FROM stream_tickets WHERE ticket_hash = %(ticket_hash)s RETURNING key_id, expires_at
)
SELECT key_id FROM used WHERE expires_at > now();
