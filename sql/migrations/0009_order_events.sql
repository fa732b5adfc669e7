-- The events of orders, for streams of all orders of an account. docs/schema.md explains every column.

-- One row for each history entry, written by the statement that appends the entry. Insert only; deleted after 25
-- hours, all but the last one. The transaction's id comes before the event's id, so that it is assigned first: a
-- transaction that began after a snapshot has only event ids beyond those that the snapshot shows.
CREATE TABLE order_events (
    xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account  text NOT NULL,
    order_id uuid NOT NULL,
    version  integer NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
) WITH (
    -- Rows are deleted from the front, which is searched for them again and again.
    autovacuum_vacuum_scale_factor = 0.02
);
CREATE INDEX order_events_xid ON order_events (xid);

CREATE FUNCTION xid_era() RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system()) || '.'
        || left(pg_walfile_name(pg_current_wal_lsn()), 8);
EXCEPTION WHEN OTHERS THEN
    RETURN '';  -- not allowed, or a standby
END
$$;

COMMENT ON FUNCTION xid_era IS 'Transaction ids of two eras cannot be compared: the data was restored into another'
    ' cluster, or to an earlier time, or a standby has become the primary. The cluster''s id and its timeline.';
