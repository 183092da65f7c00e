-- The environments that most submissions were given; beside them the sums over all.
WITH used AS (
    SELECT
        environment_key AS key,
        count(*) AS uses,
        count(*) FILTER (environment_hit) AS hits,
        quantile_disc(wall_time_ms, 0.5) FILTER (NOT environment_hit) AS build_ms,
        epoch_us(max(submitted_at)) AS last_us
    FROM chosen
    LEFT JOIN (FROM stages WHERE stage = 'dependencies' AND is_current) AS built USING (tenant, id)
    WHERE environment_key IS NOT NULL
    GROUP BY environment_key
)
SELECT
    key,
    used.uses,
    used.hits,
    build_ms,
    last_us,
    closure_bytes,
    closure_paths,
    coalesce(removed, FALSE) AS removed,
    coalesce(pinned, FALSE) AS pinned,
    coalesce(private, FALSE) AS private,
    sum(used.uses) OVER ()::BIGINT AS all_uses,
    sum(used.hits) OVER ()::BIGINT AS all_hits,
    count(*) OVER () AS environments
FROM used
LEFT JOIN environments USING (key)
ORDER BY used.uses DESC, key
LIMIT 12
