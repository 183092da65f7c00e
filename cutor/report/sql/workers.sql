SELECT
    worker,
    role,
    count(*) AS leases,
    count(*) FILTER (ended_as IN ('superseded', 'parked')) AS lost,
    sum(duration_ms)::BIGINT AS busy_ms,
    epoch_us(max(coalesce(ended_at, began_at))) AS last_us,
    count(*) OVER () AS workers
FROM attempts
SEMI JOIN chosen USING (tenant, id)
GROUP BY worker, role
ORDER BY leases DESC, worker, role
LIMIT 20
