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
-- when: interrupted
DELETE FROM stages
USING (
    SELECT folded.tenant, folded.id, interrupted_stage, ended, runs
    FROM folded JOIN (FROM incoming WHERE interrupted_stage IS NOT NULL) AS incoming ON incoming.sequence = folded.told
) AS retold
WHERE (stages.tenant, stages.id, stages.stage) = (retold.tenant, retold.id, retold.interrupted_stage)
    AND stages.sequence = retold.ended
    AND coalesce(stages.test_case < retold.runs, TRUE);

-- The stages that the batch's events report.
-- when: cache-built compiled ran finished cleaned
INSERT INTO stages BY NAME
SELECT
    tenant,
    id,
    CASE event.kind WHEN 'ran' THEN 'run' WHEN 'compiled' THEN 'compile' WHEN 'cleaned' THEN interrupted_stage ELSE 'dependencies' END
        AS stage,
    if(event.kind = 'cleaned', folded.lease.number, lease_number) AS attempt,
    CASE WHEN event.kind = 'ran' THEN index + place WHEN interrupted_stage = 'run' THEN interrupted_index + place END AS test_case,
    report.* EXCLUDE (sequence, place),
    worker,
    utc(time_ns) AS reported_at,
    sequence,
    CASE
        WHEN event.kind IN ('ran', 'compiled') THEN sequence > began
        ELSE event.kind = 'cleaned' OR sequence IS NOT DISTINCT FROM dependencies
    END AS is_current
FROM incoming_stages AS report
JOIN (FROM incoming WHERE kind IN ('cache-built', 'compiled', 'ran', 'finished', 'cleaned')) AS event USING (sequence)
JOIN folded USING (tenant, id)
ANTI JOIN strays USING (sequence)
WHERE event.kind <> 'cleaned' OR sequence = told;

-- At the end: the stages that were not come to (`_runs` and `_or_stopped` of `cutor.model.result`), and the one that it stopped
-- in: where it was parked, or where it was when it was cancelled (`running_stage` of `cutor.model.state`), if nobody told more.
-- when: finished cancelled rejected parked
INSERT INTO stages BY NAME
WITH ended AS (
    SELECT
        folded.*,
        event.time_ns,
        ends.message,
        event.kind,
        requests.test_case_names,
        CASE
            WHEN event.kind = 'parked' THEN ends.parked_stage
            WHEN event.kind = 'cancelled' AND told IS NULL THEN running_stage(folded, requests)
        END AS stopped_stage
    FROM folds.requests
    JOIN (
        folded
        JOIN (FROM incoming WHERE kind IN ('finished', 'cancelled', 'rejected', 'parked')) AS event ON event.sequence = folded.ended
        JOIN incoming_ends AS ends ON ends.sequence = folded.ended
    ) ON requests.sequence = folded.submitted
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
    utc(time_ns) AS reported_at,
    ended AS sequence,
    TRUE AS is_current
FROM judged
ORDER BY ended, stage, test_case;
