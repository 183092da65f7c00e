-- One row a minute in which something happened.
CREATE VIEW throughput AS
WITH messages AS (
    SELECT
        date_trunc('minute', time) AS minute,
        count(*) AS events,
        count(*) FILTER (counts AND kind = 'submitted') AS submitted
    FROM events
    GROUP BY ALL
), ended AS (
    SELECT
        date_trunc('minute', time) AS minute,
        count(*) AS finished,
        count(*) FILTER (outcome = 'OK') AS ok,
        count(*) FILTER (outcome = 'WRONG_ANSWER') AS wrong_answer,
        count(*) FILTER (outcome = 'RUN_ERROR') AS run_error,
        count(*) FILTER (outcome = 'COMPILE_ERROR') AS compile_error,
        count(*) FILTER (outcome = 'DEPENDENCY_ERROR') AS dependency_error,
        count(*) FILTER (outcome = 'CANCELLED') AS cancelled,
        count(*) FILTER (outcome = 'REJECTED') AS rejected,
        count(*) FILTER (outcome = 'PARKED') AS parked
    FROM folds.ends
    GROUP BY ALL
)
SELECT
    minute,
    events,
    submitted,
    coalesce(finished, 0) AS finished,
    coalesce(ok, 0) AS ok,
    coalesce(wrong_answer, 0) AS wrong_answer,
    coalesce(run_error, 0) AS run_error,
    coalesce(compile_error, 0) AS compile_error,
    coalesce(dependency_error, 0) AS dependency_error,
    coalesce(cancelled, 0) AS cancelled,
    coalesce(rejected, 0) AS rejected,
    coalesce(parked, 0) AS parked
FROM messages LEFT JOIN ended USING (minute);
COMMENT ON VIEW throughput IS 'What happened in each minute; one in which nothing happened has no row';
COMMENT ON COLUMN throughput.minute IS 'Its beginning, UTC';
COMMENT ON COLUMN throughput.events IS 'Messages of the stream EVENTS, strays among them';
COMMENT ON COLUMN throughput.submitted IS 'Submissions that were handed in';
COMMENT ON COLUMN throughput.finished IS 'Submissions that ended, whatever their end';
COMMENT ON COLUMN throughput.ok IS 'Those of them with the outcome OK';
COMMENT ON COLUMN throughput.wrong_answer IS 'With the outcome WRONG_ANSWER';
COMMENT ON COLUMN throughput.run_error IS 'With the outcome RUN_ERROR';
COMMENT ON COLUMN throughput.compile_error IS 'With the outcome COMPILE_ERROR';
COMMENT ON COLUMN throughput.dependency_error IS 'With the outcome DEPENDENCY_ERROR';
COMMENT ON COLUMN throughput.cancelled IS 'With the outcome CANCELLED';
COMMENT ON COLUMN throughput.rejected IS 'With the outcome REJECTED';
COMMENT ON COLUMN throughput.parked IS 'With the outcome PARKED';
