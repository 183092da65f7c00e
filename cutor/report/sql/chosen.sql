-- What a report is about; every section reads from these. Null stands for no bound: $since_us and $until_us are microseconds
-- since 1970, $labels is a JSON object of labels that a submission must have.
WITH chosen AS MATERIALIZED (
    SELECT
        first_sequence,
        tenant,
        id,
        outcome,
        environment_key,
        environment_hit,
        submitted_at,
        finished_at
    FROM submissions
    WHERE ($since_us::BIGINT IS NULL OR submitted_at >= make_timestamp($since_us::BIGINT))
      AND ($until_us::BIGINT IS NULL OR submitted_at < make_timestamp($until_us::BIGINT))
      AND ($tenant::VARCHAR IS NULL OR tenant = $tenant::VARCHAR)
      AND len(list_filter(
          map_entries(coalesce($labels::VARCHAR, '{}')::JSON::MAP(VARCHAR, VARCHAR)),
          lambda wanted: labels[wanted.key] IS DISTINCT FROM wanted.value
      )) = 0
)
