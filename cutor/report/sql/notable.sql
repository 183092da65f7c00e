-- The submissions that took longest, held most memory, printed most.
WITH most AS (
    SELECT
        tenant,
        id,
        max(memory_peak_bytes) AS memory_bytes,
        sum(coalesce(stdout_bytes, 0) + coalesce(stderr_bytes, 0))::BIGINT AS printed_bytes
    FROM stages
    WHERE is_current AND stage = 'run'
    GROUP BY tenant, id
), measured AS (
    SELECT
        tenant,
        id,
        outcome,
        if(outcome NOT IN ('CANCELLED', 'REJECTED', 'PARKED'), epoch_us(finished_at) - epoch_us(submitted_at), NULL) AS took_us,
        memory_bytes,
        printed_bytes
    FROM chosen
    LEFT JOIN most USING (tenant, id)
)
SELECT measure, tenant, id, outcome, value
FROM (
    (SELECT 'time' AS measure, took_us AS value, * FROM measured WHERE took_us IS NOT NULL ORDER BY took_us DESC, id LIMIT 8)
    UNION ALL
    (SELECT 'memory', memory_bytes, * FROM measured WHERE memory_bytes IS NOT NULL ORDER BY memory_bytes DESC, id LIMIT 8)
    UNION ALL
    (SELECT 'output', printed_bytes, * FROM measured WHERE printed_bytes > 0 ORDER BY printed_bytes DESC, id LIMIT 8)
)
