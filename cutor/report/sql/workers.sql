-- A lease is lost where no result came of it and somebody else was given the same step, or nobody for it was parked.
WITH troubled AS (
    SELECT DISTINCT tenant, id FROM events WHERE counts AND kind = 'leased' AND lease_number > 1
    UNION
    SELECT tenant, id FROM chosen WHERE outcome = 'PARKED'
), steps AS (
    SELECT
        tenant,
        id,
        role,
        lease_number,
        any_value(worker) AS worker,
        bool_or(kind <> 'leased') AS told,
        max(lease_number) OVER (PARTITION BY tenant, id, role) AS newest
    FROM events
    SEMI JOIN troubled USING (tenant, id)
    WHERE counts AND kind IN ('leased', 'cache-built', 'finished', 'rejected', 'cache-lost')
    GROUP BY tenant, id, role, lease_number
), lost AS (
    SELECT worker, role, count(*) AS lost
    FROM steps
    JOIN chosen USING (tenant, id)
    WHERE NOT told AND (lease_number < newest OR outcome = 'PARKED')
    GROUP BY worker, role
), leases AS (
    SELECT
        worker,
        role,
        count(*) FILTER (kind = 'leased') AS leases,
        epoch_us(max(time)) AS last_us
    FROM events
    SEMI JOIN chosen USING (tenant, id)
    WHERE counts AND worker IS NOT NULL AND role IS NOT NULL
    GROUP BY worker, role
), times AS (
    SELECT worker, if(stage = 'dependencies', 'builder', 'runner') AS role, sum(wall_time_ms)::BIGINT AS stages_ms
    FROM stages
    SEMI JOIN chosen USING (tenant, id)
    GROUP BY ALL
)
SELECT
    worker,
    role,
    leases,
    coalesce(lost, 0) AS lost,
    stages_ms,
    last_us,
    count(*) OVER () AS workers
FROM leases
LEFT JOIN lost USING (worker, role)
LEFT JOIN times USING (worker, role)
ORDER BY leases DESC, worker, role
LIMIT 20
