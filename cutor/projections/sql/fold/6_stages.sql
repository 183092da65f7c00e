-- What an attempt reported before another one began, or before the environment was lost, is no longer current. Where that
-- happened in no submission of the batch, which is the rule, nothing of `stages` is read.
-- when: leased cache-lost finished
UPDATE stages SET is_current = FALSE
FROM folded
WHERE (
        folded.old_began < folded.began
        OR (folded.old_dependencies > 0 AND folded.dependencies IS DISTINCT FROM folded.old_dependencies)
    )
    AND stages.is_current
    AND stages.tenant = folded.tenant
    AND stages.id = folded.id
    AND if(stages.stage = 'dependencies', stages.sequence IS DISTINCT FROM folded.dependencies, stages.sequence < folded.began);

-- A worker that a cancel stopped tells in `cleaned` what it had: that takes the place of what the end, in a batch before, made up.
-- when: cleaned
DELETE FROM stages
USING folded, step
WHERE step.sequence = folded.told
    AND (stages.tenant, stages.id, stages.stage) = (folded.tenant, folded.id, step.interrupted.stage)
    AND stages.sequence = folded.ended
    AND coalesce(stages.test_case < folded.runs, TRUE);

-- The stages that the batch's events report.
-- when: cache-built compiled ran finished cleaned
INSERT INTO stages BY NAME
WITH documents AS (
    SELECT
        counted.*,
        from_json(
            CASE kind
                WHEN 'ran' THEN json_extract(coalesce(document, body), '$.stages')
                WHEN 'finished' THEN json_array(json_extract(coalesce(document, body), '$.dependencies'))
                WHEN 'cleaned' THEN json_extract(coalesce(document, body), '$.interrupted.stages')
                ELSE json_array(json_extract(coalesce(document, body), '$.stage'))
            END,
            '[{"outcome": "VARCHAR", "name": "VARCHAR", "exit_code": "BIGINT", "signal": {"number": "BIGINT", "name": "VARCHAR"},
               "cpu_time_ms": "BIGINT", "wall_time_ms": "BIGINT", "memory_peak_bytes": "BIGINT",
               "stdout": {"bytes_total": "BIGINT", "truncated": "BOOLEAN"},
               "stderr": {"bytes_total": "BIGINT", "truncated": "BOOLEAN"},
               "limits": {"wall_time_ms": "BIGINT", "cpu_time_ms": "BIGINT", "memory_bytes": "BIGINT", "processes": "BIGINT",
                   "stdout_bytes": "BIGINT", "stderr_bytes": "BIGINT", "file_size_bytes": "BIGINT", "open_files": "BIGINT"},
               "message": "VARCHAR"}]'
        ) AS reports
    FROM counted JOIN incoming USING (sequence)
    WHERE kind IN ('cache-built', 'compiled', 'ran', 'finished', 'cleaned')
), exploded AS (
    SELECT * EXCLUDE (reports), unnest(reports) AS report, generate_subscripts(reports, 1) - 1 AS place FROM documents
)
SELECT
    exploded.tenant,
    exploded.id,
    CASE exploded.kind
        WHEN 'ran' THEN 'run'
        WHEN 'compiled' THEN 'compile'
        WHEN 'cleaned' THEN interrupted.stage
        ELSE 'dependencies'
    END AS stage,
    if(exploded.kind = 'cleaned', folded.lease.number, step.lease.number) AS attempt,
    CASE WHEN exploded.kind = 'ran' THEN index + place WHEN interrupted.stage = 'run' THEN interrupted.index + place END AS test_case,
    report.name AS name,
    report.outcome AS outcome,
    report.exit_code AS exit_code,
    report.signal.number AS signal,
    report.signal.name AS signal_name,
    report.cpu_time_ms AS cpu_time_ms,
    report.wall_time_ms AS wall_time_ms,
    report.memory_peak_bytes AS memory_peak_bytes,
    coalesce(report.stdout.bytes_total, 0) AS stdout_bytes,
    coalesce(report.stdout.truncated, FALSE) AS stdout_truncated,
    coalesce(report.stderr.bytes_total, 0) AS stderr_bytes,
    coalesce(report.stderr.truncated, FALSE) AS stderr_truncated,
    report.limits AS limits,
    report.message AS message,
    step.worker AS worker,
    utc(exploded.time_ns) AS reported_at,
    sequence,
    CASE
        WHEN exploded.kind IN ('ran', 'compiled') THEN sequence > began
        ELSE exploded.kind = 'cleaned' OR sequence IS NOT DISTINCT FROM dependencies
    END AS is_current
FROM exploded JOIN step USING (sequence) JOIN folded ON (folded.tenant, folded.id) = (exploded.tenant, exploded.id)
WHERE report.outcome IS NOT NULL AND (exploded.kind <> 'cleaned' OR sequence = told)
ORDER BY sequence, place;

-- At the end: the stages that were not come to (`_runs` and `_or_stopped` of `cutor.model.result`), and the one that it stopped
-- in: where it was parked, or where it was when it was cancelled (`running_stage` of `cutor.model.state`), if nobody told more.
-- when: finished cancelled rejected parked
INSERT INTO stages BY NAME
WITH ended AS (
    SELECT
        folded.*,
        ends.time,
        ends.message,
        counted.kind,
        requests.test_case_names,
        CASE
            WHEN counted.kind = 'parked' THEN ends.parked_stage
            WHEN counted.kind = 'cancelled' AND told IS NULL THEN running_stage(folded, requests)
        END AS stopped_stage
    FROM folded
    JOIN counted ON counted.sequence = folded.ended
    JOIN folds.ends ON ends.sequence = folded.ended
    JOIN folds.requests ON requests.sequence = folded.submitted
), missing AS (
    SELECT *, 'run' AS stage, unnest(range(runs, len(test_case_names))) AS test_case FROM ended
    UNION ALL
    SELECT *, 'dependencies', NULL FROM ended WHERE stopped_stage = 'dependencies' AND dependencies IS NULL
    UNION ALL
    SELECT *, 'compile', NULL FROM ended WHERE stopped_stage = 'compile' AND compiled IS NULL
), judged AS (
    SELECT
        *,
        coalesce(stage = stopped_stage AND (test_case IS NULL OR test_case = runs), FALSE) AS stopped_here,
        stopped_here AND kind = 'parked' AS parked_here
    FROM missing
)
SELECT
    tenant,
    id,
    stage,
    if(stage = 'dependencies', builder_leases, runner_leases) AS attempt,
    test_case,
    if(stage = 'run', test_case_names[test_case + 1], NULL) AS name,
    CASE WHEN parked_here THEN 'XX' WHEN stopped_here THEN 'CANCELLED' ELSE 'SKIPPED' END AS outcome,
    if(parked_here, message, NULL) AS message,
    time AS reported_at,
    ended AS sequence,
    TRUE AS is_current
FROM judged
ORDER BY ended, stage, test_case;
