-- One row a test case of a request, whether it has run or not: what `stages` says of the current attempt stands beside it.
CREATE VIEW test_cases AS
WITH requested AS (
    SELECT
        submission.tenant,
        submission.id,
        unnest(range(len(requests.test_case_names))) AS test_case,
        unnest(requests.test_case_names) AS name
    FROM folds.submissions AS submission
    JOIN folds.requests AS requests ON requests.sequence = submission.submitted
)
SELECT
    requested.tenant,
    requested.id,
    requested.test_case,
    requested.name,
    outcome,
    exit_code,
    signal,
    signal_name,
    cpu_time_ms,
    wall_time_ms,
    memory_peak_bytes,
    stdout_bytes,
    stdout_truncated,
    stderr_bytes,
    stderr_truncated,
    message,
    attempt,
    worker,
    reported_at
FROM requested
LEFT JOIN (FROM stages WHERE stage = 'run' AND is_current) AS result
    ON (result.tenant, result.id, result.test_case) = (requested.tenant, requested.id, requested.test_case);
COMMENT ON VIEW test_cases IS 'Every test case of every request, with its result in the current attempt';
COMMENT ON COLUMN test_cases.tenant IS 'Whose submission it belongs to';
COMMENT ON COLUMN test_cases.id IS 'The submission';
COMMENT ON COLUMN test_cases.test_case IS 'Its place in the request, from 0';
COMMENT ON COLUMN test_cases.name IS 'Its name in the request; null for one without a name';
COMMENT ON COLUMN test_cases.outcome IS 'OK, RE, SG, TLE_CPU, TLE_WALL, MLE, OLE, FSE, WA, CANCELLED, SKIPPED or XX; null until it has run, or the submission has ended';
COMMENT ON COLUMN test_cases.exit_code IS 'Exit code of the program; null where it did not exit';
COMMENT ON COLUMN test_cases.signal IS 'Number of the signal that ended it; null where none did';
COMMENT ON COLUMN test_cases.signal_name IS 'Name of that signal';
COMMENT ON COLUMN test_cases.cpu_time_ms IS 'CPU time of the process tree, milliseconds; null where it was not measured';
COMMENT ON COLUMN test_cases.wall_time_ms IS 'Wall time, milliseconds; null where it was not measured';
COMMENT ON COLUMN test_cases.memory_peak_bytes IS 'Most memory held at one time, bytes; null where it was not measured';
COMMENT ON COLUMN test_cases.stdout_bytes IS 'Bytes printed to stdout, kept or not';
COMMENT ON COLUMN test_cases.stdout_truncated IS 'Whether only a prefix of them was kept';
COMMENT ON COLUMN test_cases.stderr_bytes IS 'Bytes printed to stderr, kept or not';
COMMENT ON COLUMN test_cases.stderr_truncated IS 'Whether only a prefix of them was kept';
COMMENT ON COLUMN test_cases.message IS 'A sentence about the outcome';
COMMENT ON COLUMN test_cases.attempt IS 'Number of the runner''s lease under which it ran; the newest where it did not run';
COMMENT ON COLUMN test_cases.worker IS 'Worker that ran it; null where none did';
COMMENT ON COLUMN test_cases.reported_at IS 'Time of the event that reported it, UTC';
