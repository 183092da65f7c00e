SELECT
    stages.stage,
    count(*) AS count,
    count(cpu_time_ms) AS timed,
    quantile_disc(cpu_time_ms, [0.5, 0.9, 0.99, 1.0]) AS cpu_ms,
    quantile_disc(wall_time_ms, [0.5, 0.9, 0.99, 1.0]) AS wall_ms,
    count(memory_peak_bytes) AS weighed,
    quantile_disc(memory_peak_bytes, [0.5, 0.9, 0.99, 1.0]) AS memory_bytes
FROM stages
JOIN chosen USING (tenant, id)
WHERE is_current AND stages.outcome <> 'SKIPPED'
GROUP BY stages.stage
ORDER BY stages.stage
