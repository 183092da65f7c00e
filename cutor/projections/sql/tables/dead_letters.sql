-- One row a message that is no event, or an event where none of its kind can be. The projector writes a letter about each.
CREATE VIEW dead_letters AS
SELECT 'EVENTS' AS stream, sequence, time, subject, message_id, coalesce(fault, stray) AS reason
FROM events
WHERE fault IS NOT NULL OR NOT counts
UNION ALL
SELECT 'ENVIRONMENTS' AS stream, sequence, time, subject, message_id, fault AS reason
FROM environment_events
WHERE fault IS NOT NULL;
COMMENT ON VIEW dead_letters IS 'Every message that could not be read as an event, or was one that changed nothing';
COMMENT ON COLUMN dead_letters.stream IS 'Stream in which it stands: EVENTS or ENVIRONMENTS';
COMMENT ON COLUMN dead_letters.sequence IS 'Its place there: `cutor dead-letters show` takes it';
COMMENT ON COLUMN dead_letters.time IS 'The stream''s own time, UTC, to the microsecond';
COMMENT ON COLUMN dead_letters.subject IS 'Subject under which it was published';
COMMENT ON COLUMN dead_letters.message_id IS 'Message id that it was published with';
COMMENT ON COLUMN dead_letters.reason IS 'Why it is here';
