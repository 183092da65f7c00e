-- What a cancel interrupted comes with `cleaned`, where it comes next (`continues` and `_interrupted` of `cutor.model.state`).
-- Nothing that counts follows it: so it is added to the states when the fold is done.
-- when: interrupted
UPDATE folded SET
    runs = folded.runs + if(part.stage = 'run', part.stages, 0),
    passed = folded.passed + if(part.stage = 'run', part.passed, 0),
    compiled = if(part.stage = 'compile', part.sequence, folded.compiled),
    dependencies = if(part.stage = 'dependencies', part.sequence, folded.dependencies),
    told = part.sequence
FROM (
    SELECT
        incoming.sequence,
        tenant,
        id,
        interrupted_stage AS stage,
        interrupted_stages AS stages,
        interrupted_passed AS passed
    FROM folds.requests
    JOIN (
        (FROM incoming WHERE interrupted_stage IS NOT NULL) AS incoming
        ANTI JOIN strays USING (sequence)
        JOIN folded AS state USING (tenant, id)
    ) ON requests.sequence = state.submitted
    WHERE incoming.kind = 'cleaned'
        AND state.status = status('CANCELLED')
        AND incoming.worker = state.lease.worker
        AND interrupted_stage = running_stage(state, requests)
        AND interrupted_stages > 0
        AND if(
            interrupted_stage = 'run',
            interrupted_index = state.runs AND state.runs + interrupted_stages <= len(test_case_names),
            interrupted_index = 0 AND interrupted_stages = 1
        )
) AS part
WHERE (folded.tenant, folded.id) = (part.tenant, part.id);

UPDATE folds.settled SET
    status = folded.status,
    builder_leases = folded.builder_leases,
    runner_leases = folded.runner_leases,
    lease = folded.lease,
    losses = folded.losses,
    runs = folded.runs,
    passed = folded.passed,
    began = folded.began,
    compiled = folded.compiled,
    submitted = folded.submitted,
    built = folded.built,
    dependencies = folded.dependencies,
    ended = folded.ended,
    cleaned_ns = folded.cleaned_ns,
    strays = folded.strays,
    last_sequence = folded.last_sequence
FROM folded
WHERE folded.is_old AND (settled.tenant, settled.id) = (folded.tenant, folded.id);

INSERT INTO folds.settled BY NAME
SELECT * EXCLUDE (is_old, old_dependencies, old_began, ignored, told) FROM folded WHERE NOT is_old;
