-- What keeps the views of a stream from going on; null where nothing does.
CREATE TABLE folds.waits (
    stream VARCHAR PRIMARY KEY,
    reason VARCHAR
);

-- How far the views have come, one row a stream: to the last message that is a row. Every message becomes one, in the transaction
-- that folds it in, so whatever is in this file was folded from exactly the messages up to `sequence`.
CREATE VIEW checkpoint AS
SELECT
    'EVENTS' AS stream,
    coalesce(max(sequence), 0) AS sequence,
    max_by(time, sequence) AS time,
    coalesce((
        SELECT sha256(unhex(
            array_to_string(
                [printf('%08x', strlen(part)) || hex(encode(part))
                    for part in [sequence::VARCHAR, time_ns::VARCHAR, subject, coalesce(message_id, '')]],
                ''
            ) || hex(coalesce(raw, encode(body::VARCHAR)))
        ))
        FROM events
        ORDER BY sequence DESC
        LIMIT 1
    ), '') AS fingerprint,
    count(*) AS messages,
    count(fault) AS undecodable,
    (SELECT reason FROM folds.waits WHERE waits.stream = 'EVENTS') AS waits_for
FROM events
UNION ALL
SELECT
    'ENVIRONMENTS' AS stream,
    coalesce(max(sequence), 0) AS sequence,
    max_by(time, sequence) AS time,
    coalesce((
        SELECT sha256(unhex(
            array_to_string(
                [printf('%08x', strlen(part)) || hex(encode(part))
                    for part in [sequence::VARCHAR, time_ns::VARCHAR, subject, coalesce(message_id, '')]],
                ''
            ) || hex(coalesce(raw, encode(body::VARCHAR)))
        ))
        FROM environment_events
        ORDER BY sequence DESC
        LIMIT 1
    ), '') AS fingerprint,
    count(*) AS messages,
    count(fault) AS undecodable,
    (SELECT reason FROM folds.waits WHERE waits.stream = 'ENVIRONMENTS') AS waits_for
FROM environment_events;
COMMENT ON VIEW checkpoint IS 'How far the views have come in each stream';
COMMENT ON COLUMN checkpoint.stream IS 'EVENTS or ENVIRONMENTS';
COMMENT ON COLUMN checkpoint.sequence IS 'The last message that is folded in; 0 before the first';
COMMENT ON COLUMN checkpoint.time IS 'Time of that message in the stream, UTC';
COMMENT ON COLUMN checkpoint.fingerprint IS 'SHA-256 of that message, in hex: tells whether the stream is still the one that was read';
COMMENT ON COLUMN checkpoint.messages IS 'Messages folded in since the file was made';
COMMENT ON COLUMN checkpoint.undecodable IS 'Those among them that could not be read as events';
COMMENT ON COLUMN checkpoint.waits_for IS 'What keeps the views from going on: messages that the stream has let go of, and why the archive does not give them, or that readings of the stream leave out again and again; null where nothing is in the way';

-- By which rules this file was folded; a projector with other rules makes it anew.
CREATE TABLE folds.rules (
    digest VARCHAR NOT NULL
);
