-- Most submissions of a batch go the shortest way from where they stand: submitted, leased, built, leased, compiled, run case by
-- case, ended, cleaned; each once at the most, in that order, under the newest lease. All events of such a one count, and its state
-- follows from where they stand. Which ones these are is found out here for all at once; every other one is for 2_decide.sql.
--
-- Here and in the other files a join builds its table of what stands behind JOIN, and goes through what stands before it: the order
-- is ours, for DuckDB does not know how many rows a batch has, nor that those of a file are many.
CREATE OR REPLACE TEMP TABLE lives AS
WITH turns AS (
    SELECT
        number,
        CASE
            WHEN name = 'submitted' THEN 1
            WHEN name = 'leased(builder)' THEN 2
            WHEN name = 'cache-built' AND lease_role = 'builder' THEN 3
            WHEN name = 'leased(runner)' THEN 4
            WHEN name = 'compiled' AND lease_role = 'runner' THEN 5
            WHEN name = 'ran' AND lease_role = 'runner' THEN 6
            WHEN name IN ('finished', 'cancelled', 'rejected', 'parked') THEN 7
            WHEN name = 'cleaned' THEN 8
        END AS turn
    FROM transition
), facts AS (
    SELECT
        tenant,
        id,
        count(*) AS events,
        min(sequence) AS first_sequence,
        max(sequence) AS last_sequence,
        max(sequence) FILTER (turn = 1) AS submitted,
        max(sequence) FILTER (turn = 2) AS builder_leased,
        max(sequence) FILTER (turn = 3) AS built,
        max(sequence) FILTER (turn = 4) AS runner_leased,
        max(sequence) FILTER (turn = 5) AS compiled,
        list(sequence) FILTER (turn = 6) AS rans,
        list(index) FILTER (turn = 6) AS starts,
        list(index::HUGEINT + stages) FILTER (turn = 6) AS stops,
        coalesce(sum(stages), 0)::BIGINT AS stages,
        coalesce(sum(passed), 0)::BIGINT AS passed,
        max(sequence) FILTER (turn = 7) AS ended,
        max(step) FILTER (turn = 7) AS ended_step,
        max(sequence) FILTER (has_dependencies) AS told_dependencies,
        max(sequence) FILTER (turn = 8) AS cleaned,
        max(time_ns) FILTER (turn = 8) AS cleaned_ns
    FROM incoming LEFT JOIN turns ON number = step
    WHERE id IS NOT NULL
    GROUP BY tenant, id
), leases AS (
    SELECT DISTINCT tenant, id, role, worker, lease_token AS token, lease_number AS number
    FROM incoming
    WHERE lease_token IS NOT NULL
), holders AS (
    SELECT
        tenant,
        id,
        count(number) = count(*) AS are_leases_whole,
        count(*) FILTER (role = 'builder') AS builders,
        any_value(worker) FILTER (role = 'builder') AS builder,
        any_value(token) FILTER (role = 'builder') AS builder_token,
        any_value(number) FILTER (role = 'builder') AS builder_number,
        count(*) FILTER (role = 'runner') AS runners,
        any_value(worker) FILTER (role = 'runner') AS runner,
        any_value(token) FILTER (role = 'runner') AS runner_token,
        any_value(number) FILTER (role = 'runner') AS runner_number
    FROM leases
    GROUP BY tenant, id
), ways AS (
    SELECT
        facts.*,
        coalesce(are_leases_whole, TRUE) AS are_leases_whole,
        coalesce(builders, 0) AS builders,
        builder_number,
        coalesce(runners, 0) AS runners,
        runner_number,
        old,
        coalesce(old.status, status('before')) AS old_status,
        if(facts.submitted IS NULL, old_status, status('SUBMITTED')) AS at_first,
        if(facts.built IS NULL, at_first, status('DEPENDENCIES_INSTALLED')) AS when_built,
        if(runner_leased IS NULL, when_built, status('DEPENDENCIES_INSTALLED')) AS when_leased,
        if(facts.compiled IS NULL, when_leased, status('COMPILED')) AS when_compiled,
        if(facts.ended IS NULL, when_compiled, ending.next[when_compiled]) AS status,
        {'role': 'builder', 'worker': builder, 'token': builder_token, 'number': builder_number} AS builder_lease,
        {'role': 'runner', 'worker': runner, 'token': runner_token, 'number': runner_number} AS runner_lease
    FROM folds.settled AS old
    RIGHT JOIN facts USING (tenant, id)
    LEFT JOIN holders USING (tenant, id)
    LEFT JOIN transition AS ending ON ending.number = ended_step
)
SELECT
    tenant,
    id,
    coalesce(
        -- nothing else than these, and none but `ran` twice
        events = coalesce(len(rans), 0) + (submitted IS NOT NULL)::BIGINT + (builder_leased IS NOT NULL)::BIGINT
            + (built IS NOT NULL)::BIGINT + (runner_leased IS NOT NULL)::BIGINT + (compiled IS NOT NULL)::BIGINT
            + (ended IS NOT NULL)::BIGINT + (cleaned IS NOT NULL)::BIGINT
        AND (old_status = status('before')) = (submitted IS NOT NULL)
        AND coalesce(submitted = first_sequence, TRUE)
        -- each from a status that it may follow, and behind those before it
        AND (builder_leased IS NULL OR (at_first = status('SUBMITTED') AND builder_number = coalesce(old.builder_leases, 0) + 1))
        AND (built IS NULL OR (at_first = status('SUBMITTED') AND built > coalesce(builder_leased, 0)))
        AND (runner_leased IS NULL OR (
            when_built IN (status('DEPENDENCIES_INSTALLED'), status('COMPILED'))
            AND runner_number = coalesce(old.runner_leases, 0) + 1
            AND runner_leased > greatest(builder_leased, built, 0)
        ))
        AND (compiled IS NULL OR (
            when_leased = status('DEPENDENCIES_INSTALLED')
            AND compiled > greatest(builder_leased, built, runner_leased, 0)
        ))
        AND (rans IS NULL OR (
            when_compiled IN (status('DEPENDENCIES_INSTALLED'), status('COMPILED'))
            AND rans = list_sort(rans)
            AND rans[1] > greatest(builder_leased, built, runner_leased, compiled, 0)
            AND starts[1] = if(runner_leased IS NULL, coalesce(old.runs, 0), 0)
            AND starts[2:] = stops[:-2]
        ))
        AND (ended IS NULL OR (
            status IS NOT NULL
            AND ended > greatest(builder_leased, built, runner_leased, compiled, rans[-1], 0)
        ))
        AND (cleaned IS NULL OR (
            status IN (status('FINISHED'), status('CANCELLED'), status('REJECTED'), status('PARKED'))
            AND old.cleaned_ns IS NULL
            AND cleaned = last_sequence
        ))
        -- all under one lease of each role, which is the newest one
        AND are_leases_whole
        AND (builders = 0 OR (builders = 1 AND (builder_leased IS NOT NULL OR builder_lease = old.lease)))
        AND (runners = 0 OR (
            runners = 1 AND (runner_leased IS NOT NULL OR (builder_leased IS NULL AND runner_lease = old.lease))
        )),
        FALSE
    ) AS is_orderly,
    last_sequence,
    old.status IS NOT NULL AS is_old,
    old.dependencies AS old_dependencies,
    if(old.compiled IS NOT NULL OR old.runs > 0, old.began, NULL) AS old_began,
    status,
    if(builder_leased IS NULL, coalesce(old.builder_leases, 0), builder_number) AS builder_leases,
    if(runner_leased IS NULL, coalesce(old.runner_leases, 0), runner_number) AS runner_leases,
    CASE WHEN runner_leased IS NOT NULL THEN runner_lease WHEN builder_leased IS NOT NULL THEN builder_lease ELSE old.lease END
        AS lease,
    coalesce(old.losses, 0) AS losses,
    if(runner_leased IS NULL, coalesce(old.runs, 0), 0) + stages AS runs,
    if(runner_leased IS NULL, coalesce(old.passed, 0), 0) + passed AS passed,
    coalesce(runner_leased, old.began, 0) AS began,
    if(runner_leased IS NULL, coalesce(compiled, old.compiled), compiled) AS compiled,
    coalesce(submitted, old.submitted) AS submitted,
    coalesce(built, old.built) AS built,
    coalesce(told_dependencies, built, old.dependencies) AS dependencies,
    coalesce(ended, old.ended) AS ended,
    coalesce(cleaned_ns, old.cleaned_ns) AS cleaned_ns,
    coalesce(old.strays, 0) AS strays
FROM ways;

-- What a batch may have beside its kinds of events: statements are left out without it.
-- finds: disorderly interrupted
SELECT 'disorderly' WHERE EXISTS (FROM lives WHERE NOT is_orderly)
UNION ALL
SELECT 'interrupted' WHERE EXISTS (FROM incoming WHERE interrupted_stage IS NOT NULL);
