-- A hundred and one quantiles of every span are its distribution.
WITH spans AS (
    SELECT 'builder' AS span, epoch_us(time) - epoch_us(submitted_at) AS us
    FROM (FROM events WHERE counts AND kind = 'leased' AND role = 'builder' AND lease_number = 1) AS leased
    JOIN chosen USING (tenant, id)
    UNION ALL
    SELECT 'runner', epoch_us(leased.time) - epoch_us(built.time)
    FROM (FROM events WHERE counts AND kind = 'leased' AND role = 'runner' AND lease_number = 1) AS leased
    JOIN (FROM events WHERE counts AND kind = 'cache-built') AS built USING (tenant, id)
    JOIN chosen USING (tenant, id)
    WHERE built.sequence < leased.sequence
    UNION ALL
    SELECT 'whole', epoch_us(finished_at) - epoch_us(submitted_at)
    FROM chosen
    WHERE outcome NOT IN ('CANCELLED', 'REJECTED', 'PARKED')
    UNION ALL
    SELECT if(stages.stage = 'dependencies', if(environment_hit, 'found', 'built'), stages.stage), 1000 * wall_time_ms
    FROM stages
    JOIN chosen USING (tenant, id)
    WHERE is_current AND wall_time_ms IS NOT NULL
)
SELECT
    span,
    count(*) AS count,
    quantile_disc(greatest(us, 0), [percent / 100.0 FOR percent IN range(101)]) AS quantiles_us
FROM spans
GROUP BY span
ORDER BY span
