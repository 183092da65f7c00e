-- One row a stage of every attempt: what its event reported. After the end of a submission the stages that it did not come to
-- are here too (SKIPPED, and XX for the one that a parked submission stopped at, CANCELLED for a cancelled one, until its worker
-- tells more in `cleaned`), so that its current rows are its result.
CREATE TABLE stages (
    tenant VARCHAR NOT NULL,
    id VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    attempt BIGINT NOT NULL,
    test_case BIGINT,
    name VARCHAR,
    outcome VARCHAR NOT NULL,
    exit_code BIGINT,
    signal BIGINT,
    signal_name VARCHAR,
    cpu_time_ms BIGINT,
    wall_time_ms BIGINT,
    memory_peak_bytes BIGINT,
    stdout_bytes BIGINT,
    stdout_truncated BOOLEAN,
    stderr_bytes BIGINT,
    stderr_truncated BOOLEAN,
    limits STRUCT (
        wall_time_ms BIGINT,
        cpu_time_ms BIGINT,
        memory_bytes BIGINT,
        processes BIGINT,
        stdout_bytes BIGINT,
        stderr_bytes BIGINT,
        file_size_bytes BIGINT,
        open_files BIGINT
    ),
    message VARCHAR,
    worker VARCHAR,
    reported_at TIMESTAMP NOT NULL,
    sequence BIGINT NOT NULL,
    is_current BOOLEAN NOT NULL
);
COMMENT ON TABLE stages IS 'Every stage of every attempt';
COMMENT ON COLUMN stages.tenant IS 'Whose submission it belongs to';
COMMENT ON COLUMN stages.id IS 'The submission';
COMMENT ON COLUMN stages.stage IS 'dependencies, compile or run';
COMMENT ON COLUMN stages.attempt IS 'Number of the lease under which it ran: the builder''s for dependencies, else the runner''s; 0 where none was taken';
COMMENT ON COLUMN stages.test_case IS 'Place of the test case in the request, from 0; null but for run';
COMMENT ON COLUMN stages.name IS 'Name of the test case';
COMMENT ON COLUMN stages.outcome IS 'OK, RE, SG, TLE_CPU, TLE_WALL, MLE, OLE, FSE, WA, CANCELLED, SKIPPED or XX';
COMMENT ON COLUMN stages.exit_code IS 'Exit code of the program; null where it did not exit';
COMMENT ON COLUMN stages.signal IS 'Number of the signal that ended it; null where none did';
COMMENT ON COLUMN stages.signal_name IS 'Name of that signal';
COMMENT ON COLUMN stages.cpu_time_ms IS 'CPU time of the process tree, milliseconds; null where it was not measured';
COMMENT ON COLUMN stages.wall_time_ms IS 'Wall time, milliseconds; null where it was not measured';
COMMENT ON COLUMN stages.memory_peak_bytes IS 'Most memory held at one time, bytes; null where it was not measured';
COMMENT ON COLUMN stages.stdout_bytes IS 'Bytes printed to stdout, kept or not';
COMMENT ON COLUMN stages.stdout_truncated IS 'Whether only a prefix of them was kept';
COMMENT ON COLUMN stages.stderr_bytes IS 'Bytes printed to stderr, kept or not';
COMMENT ON COLUMN stages.stderr_truncated IS 'Whether only a prefix of them was kept';
COMMENT ON COLUMN stages.limits IS 'The limits it ran under: milliseconds, bytes, counts, as their names say';
COMMENT ON COLUMN stages.message IS 'A sentence about the outcome';
COMMENT ON COLUMN stages.worker IS 'Worker that ran it';
COMMENT ON COLUMN stages.reported_at IS 'Time of the event that reported it, UTC';
COMMENT ON COLUMN stages.sequence IS 'Sequence of that event';
COMMENT ON COLUMN stages.is_current IS 'Whether it belongs to the submission''s result; false for attempts that came to nothing';
