-- The stages of `rejudgements`, side by side: one row a stage and test case of the new result.
CREATE VIEW rejudged_stages AS
SELECT
    again.labels['rejudge'] AS name,
    again.tenant,
    again.caused_by AS id,
    again.id AS rejudged_id,
    new.stage,
    new.test_case,
    new.name AS test_case_name,
    old.outcome AS outcome_before,
    new.outcome,
    new.outcome <> old.outcome AS changed,
    old.cpu_time_ms AS cpu_time_ms_before,
    new.cpu_time_ms,
    TRY_CAST(new.cpu_time_ms::HUGEINT - old.cpu_time_ms AS BIGINT) AS cpu_time_ms_difference,
    old.wall_time_ms AS wall_time_ms_before,
    new.wall_time_ms,
    TRY_CAST(new.wall_time_ms::HUGEINT - old.wall_time_ms AS BIGINT) AS wall_time_ms_difference,
    old.memory_peak_bytes AS memory_peak_bytes_before,
    new.memory_peak_bytes,
    TRY_CAST(new.memory_peak_bytes::HUGEINT - old.memory_peak_bytes AS BIGINT) AS memory_peak_bytes_difference
FROM submissions AS again
JOIN stages AS new ON new.tenant = again.tenant AND new.id = again.id AND new.is_current
JOIN stages AS old
    ON old.tenant = again.tenant AND old.id = again.caused_by AND old.is_current
    AND old.stage = new.stage AND old.test_case IS NOT DISTINCT FROM new.test_case
WHERE again.caused_by IS NOT NULL;
COMMENT ON VIEW rejudged_stages IS 'Every stage that two submissions have of which one judges the other again';
COMMENT ON COLUMN rejudged_stages.name IS 'Name of the re-judging, its label `rejudge`; null for the retry of a parked submission';
COMMENT ON COLUMN rejudged_stages.tenant IS 'Whose submissions they are';
COMMENT ON COLUMN rejudged_stages.id IS 'The submission that was judged before';
COMMENT ON COLUMN rejudged_stages.rejudged_id IS 'The one that judges it again';
COMMENT ON COLUMN rejudged_stages.stage IS 'dependencies, compile or run';
COMMENT ON COLUMN rejudged_stages.test_case IS 'Place of the test case in the request, from 0; null but for run';
COMMENT ON COLUMN rejudged_stages.test_case_name IS 'Name of the test case';
COMMENT ON COLUMN rejudged_stages.outcome_before IS 'Outcome of the stage before';
COMMENT ON COLUMN rejudged_stages.outcome IS 'Outcome of the stage now';
COMMENT ON COLUMN rejudged_stages.changed IS 'Whether it is another one';
COMMENT ON COLUMN rejudged_stages.cpu_time_ms_before IS 'CPU time before, milliseconds; null where it was not measured';
COMMENT ON COLUMN rejudged_stages.cpu_time_ms IS 'CPU time now, milliseconds; null where it was not measured';
COMMENT ON COLUMN rejudged_stages.cpu_time_ms_difference IS 'Now less before, milliseconds';
COMMENT ON COLUMN rejudged_stages.wall_time_ms_before IS 'Wall time before, milliseconds; null where it was not measured';
COMMENT ON COLUMN rejudged_stages.wall_time_ms IS 'Wall time now, milliseconds; null where it was not measured';
COMMENT ON COLUMN rejudged_stages.wall_time_ms_difference IS 'Now less before, milliseconds';
COMMENT ON COLUMN rejudged_stages.memory_peak_bytes_before IS 'Most memory held at one time before, bytes; null where it was not measured';
COMMENT ON COLUMN rejudged_stages.memory_peak_bytes IS 'Most memory now, bytes; null where it was not measured';
COMMENT ON COLUMN rejudged_stages.memory_peak_bytes_difference IS 'Now less before, bytes';
