-- What one batch of messages comes in, in stream order; the statements of fold/ then run over it, one after the other, in one
-- transaction. It is made anew for each batch: DuckDB keeps the memory of rows that are deleted from a table that stays.
CREATE OR REPLACE TEMP TABLE written (
    sequence BIGINT NOT NULL,
    time_ns BIGINT NOT NULL,
    subject VARCHAR NOT NULL,
    message_id VARCHAR,
    body VARCHAR,                -- null where the bytes are not UTF-8: then they are in `raw`
    raw BLOB,
    document VARCHAR,            -- the body in today's version, where that is another one; null where they are the same
    fault VARCHAR                -- why it cannot be read as an event; null where it can
);
