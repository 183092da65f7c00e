-- How far the views have come, one row a stream. It commits in the transaction that folded the event it names: whatever is in
-- this file, it was folded from exactly the events up to `sequence`.
CREATE TABLE checkpoint (
    stream VARCHAR PRIMARY KEY,
    sequence BIGINT NOT NULL,
    time TIMESTAMP,
    fingerprint VARCHAR NOT NULL,
    messages BIGINT NOT NULL,
    undecodable BIGINT NOT NULL,
    waits_for VARCHAR
);
COMMENT ON TABLE checkpoint IS 'How far the views have come in each stream';
COMMENT ON COLUMN checkpoint.stream IS 'EVENTS or ENVIRONMENTS';
COMMENT ON COLUMN checkpoint.sequence IS 'The last message that is folded in; 0 before the first';
COMMENT ON COLUMN checkpoint.time IS 'Time of that message in the stream, UTC';
COMMENT ON COLUMN checkpoint.fingerprint IS 'SHA-256 of that message, in hex: tells whether the stream is still the one that was read';
COMMENT ON COLUMN checkpoint.messages IS 'Messages folded in since the file was made';
COMMENT ON COLUMN checkpoint.undecodable IS 'Those among them that could not be read as events';
COMMENT ON COLUMN checkpoint.waits_for IS 'What the views lack to go on: messages that the stream has let go of, and why the archive does not give them; null where nothing is in the way';

-- By which rules this file was folded; a projector with other rules makes it anew.
CREATE TABLE folds.rules (
    digest VARCHAR NOT NULL
);
