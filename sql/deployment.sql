-- The deployment: all instances that share a database.

-- name: create_deployment
-- Return the deployment's id; the first start creates it.
INSERT INTO deployment (id)
VALUES (%(id)s)
ON CONFLICT (only_row) DO UPDATE SET only_row = true
RETURNING id::text;
