-- One row a submission that another one caused, beside that one. Of a retry of a parked submission `name` is null.
CREATE VIEW rejudgements AS
WITH used AS (
    SELECT
        tenant,
        id,
        stage,
        sum(cpu_time_ms) AS cpu_time_ms,
        sum(wall_time_ms) AS wall_time_ms,
        max(memory_peak_bytes) AS memory_peak_bytes
    FROM stages
    WHERE is_current AND outcome <> 'SKIPPED'
    GROUP BY ALL
), differences AS (
    SELECT
        again.tenant,
        again.id,
        struct_pack(
            cpu_time_ms := TRY_CAST(new.cpu_time_ms - old.cpu_time_ms AS BIGINT),
            wall_time_ms := TRY_CAST(new.wall_time_ms - old.wall_time_ms AS BIGINT),
            memory_peak_bytes := TRY_CAST(new.memory_peak_bytes::HUGEINT - old.memory_peak_bytes AS BIGINT)
        ) AS difference,
        new.stage
    FROM submissions AS again
    JOIN used AS new ON new.tenant = again.tenant AND new.id = again.id
    JOIN used AS old ON old.tenant = again.tenant AND old.id = again.caused_by AND old.stage = new.stage
    WHERE again.caused_by IS NOT NULL
)
SELECT
    again.labels['rejudge'] AS name,
    again.tenant,
    before.id,
    again.id AS rejudged_id,
    before.outcome AS outcome_before,
    again.outcome,
    again.outcome <> before.outcome AS changed,
    before.test_cases_passed AS test_cases_passed_before,
    again.test_cases_passed,
    before.environment_derivation <> again.environment_derivation AS environment_changed,
    dependencies.difference AS dependencies_difference,
    compile.difference AS compile_difference,
    run.difference AS run_difference,
    before.submitted_at AS submitted_at_before,
    again.submitted_at,
    again.finished_at
FROM submissions AS again
JOIN submissions AS before ON before.tenant = again.tenant AND before.id = again.caused_by
LEFT JOIN differences AS dependencies
    ON dependencies.tenant = again.tenant AND dependencies.id = again.id AND dependencies.stage = 'dependencies'
LEFT JOIN differences AS compile ON compile.tenant = again.tenant AND compile.id = again.id AND compile.stage = 'compile'
LEFT JOIN differences AS run ON run.tenant = again.tenant AND run.id = again.id AND run.stage = 'run';
COMMENT ON VIEW rejudgements IS 'Every submission that judges another one again, beside that one';
COMMENT ON COLUMN rejudgements.name IS 'Name of the re-judging, its label `rejudge`; null for the retry of a parked submission';
COMMENT ON COLUMN rejudgements.tenant IS 'Whose submissions they are';
COMMENT ON COLUMN rejudgements.id IS 'The submission that was judged before';
COMMENT ON COLUMN rejudgements.rejudged_id IS 'The one that judges it again';
COMMENT ON COLUMN rejudgements.outcome_before IS 'Outcome of the former';
COMMENT ON COLUMN rejudgements.outcome IS 'Outcome of the latter; null until its end';
COMMENT ON COLUMN rejudgements.changed IS 'Whether it is another one; null until the end';
COMMENT ON COLUMN rejudgements.test_cases_passed_before IS 'Test cases of the former that were OK';
COMMENT ON COLUMN rejudgements.test_cases_passed IS 'Those of the latter';
COMMENT ON COLUMN rejudgements.environment_changed IS 'Whether the environment is another derivation; null where one of them has none';
COMMENT ON COLUMN rejudgements.dependencies_difference IS 'Latter less former, in the stage dependencies: milliseconds, bytes; null where one was not measured. Whether the environment was there already decides most of it';
COMMENT ON COLUMN rejudgements.compile_difference IS 'The same of compile';
COMMENT ON COLUMN rejudgements.run_difference IS 'The same of run: times of all test cases that ran together, memory of the largest';
COMMENT ON COLUMN rejudgements.submitted_at_before IS 'When the former was submitted, UTC';
COMMENT ON COLUMN rejudgements.submitted_at IS 'When the latter was, UTC';
COMMENT ON COLUMN rejudgements.finished_at IS 'When the latter ended, UTC';
