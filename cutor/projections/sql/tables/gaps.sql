-- What a stream should hold and does not, one row a gap. A stream that was made anew has none: neither have the views then.
CREATE TABLE gaps (
    stream VARCHAR NOT NULL,
    from_sequence BIGINT NOT NULL,
    to_sequence BIGINT NOT NULL,
    noticed_at TIMESTAMP NOT NULL,
    noticed_ns BIGINT NOT NULL
);
COMMENT ON TABLE gaps IS 'Messages that a stream should hold and its server has lost: what the views could not be made of';
COMMENT ON COLUMN gaps.stream IS 'EVENTS or ENVIRONMENTS';
COMMENT ON COLUMN gaps.from_sequence IS 'The first sequence that is missing';
COMMENT ON COLUMN gaps.to_sequence IS 'The last one';
COMMENT ON COLUMN gaps.noticed_at IS 'Time of the message behind them, at which they were missed, UTC';
COMMENT ON COLUMN gaps.noticed_ns IS 'The same in nanoseconds since 1970, exact';
