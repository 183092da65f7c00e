-- One row a message of the stream EVENTS, as it stands there. Never updated.
CREATE TABLE events (
    sequence BIGINT NOT NULL,
    time TIMESTAMP NOT NULL,
    time_ns BIGINT NOT NULL,
    subject VARCHAR NOT NULL,
    tenant VARCHAR,
    id VARCHAR,
    kind VARCHAR,
    version INTEGER,
    message_id VARCHAR,
    role VARCHAR,
    lease_number BIGINT,
    worker VARCHAR,
    counts BOOLEAN NOT NULL,
    fault VARCHAR,
    stray VARCHAR,
    body JSON,
    raw BLOB
);
COMMENT ON TABLE events IS 'Every message of the stream EVENTS';
COMMENT ON COLUMN events.sequence IS 'Place in the stream, from 1';
COMMENT ON COLUMN events.time IS 'The stream''s own time, UTC, to the microsecond';
COMMENT ON COLUMN events.time_ns IS 'The same in nanoseconds since 1970, exact';
COMMENT ON COLUMN events.subject IS 'cutor.ev.<tenant>.<id>.<kind>';
COMMENT ON COLUMN events.tenant IS 'Tenant in the subject; null where the subject is none of cutor''s';
COMMENT ON COLUMN events.id IS 'Submission in the subject; null where the subject is none of cutor''s';
COMMENT ON COLUMN events.kind IS 'Kind of the event; where the body cannot be read, that of the subject';
COMMENT ON COLUMN events.version IS 'Version of the event''s shape as written, 1 where it says none; null where the body could not be read';
COMMENT ON COLUMN events.message_id IS 'What makes a second append of the same event a duplicate';
COMMENT ON COLUMN events.role IS 'builder or runner, where the event names a role';
COMMENT ON COLUMN events.lease_number IS 'Number of the lease it belongs to, from 1 within role and submission';
COMMENT ON COLUMN events.worker IS 'Worker that held the lease, or cleaned';
COMMENT ON COLUMN events.counts IS 'Whether it changed the submission''s state; false for a stray';
COMMENT ON COLUMN events.fault IS 'Why the body could not be read as an event; null where it could';
COMMENT ON COLUMN events.stray IS 'Why an event that could be read changed nothing; null where it counts';
COMMENT ON COLUMN events.body IS 'The body as written; null where it is not JSON';
COMMENT ON COLUMN events.raw IS 'The bytes of a body that is not JSON; else null';
