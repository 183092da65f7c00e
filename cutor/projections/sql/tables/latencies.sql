-- One row a submission. A part is the time between two events that follow each other, `ran` left aside, so that no time is in
-- two parts. Which events count for a part, the folded state says; those of attempts that came to nothing are in none.
CREATE VIEW latencies AS
WITH moments AS (
    SELECT tenant, id, sequence, kind, role, time_ns, lag(kind) OVER earlier AS after_kind, lag(time_ns) OVER earlier AS after_ns
    FROM events
    WHERE counts AND kind <> 'ran'
    WINDOW earlier AS (PARTITION BY tenant, id ORDER BY sequence)
), parts AS (
    SELECT *, (time_ns - after_ns) / 1e6 AS took_ms
    FROM moments JOIN folds.submissions AS submission USING (tenant, id)
)
SELECT
    tenant,
    id,
    any_value(took_ms) FILTER (kind = 'leased' AND after_kind = 'submitted') AS builder_wait_ms,
    any_value(took_ms) FILTER (role = 'builder' AND (sequence = built OR kind = 'finished')) AS dependencies_ms,
    any_value(took_ms) FILTER (kind = 'leased' AND after_kind = 'cache-built' AND sequence > built) AS runner_wait_ms,
    any_value(took_ms) FILTER (kind = 'compiled' AND sequence = compiled) AS compile_ms,
    any_value(took_ms) FILTER (role = 'runner' AND kind = 'finished') AS run_ms,
    (any_value(time_ns) FILTER (sequence = ended) - any_value(time_ns) FILTER (sequence = submitted)) / 1e6 AS end_to_end_ms,
    any_value(took_ms) FILTER (kind = 'cleaned') AS clean_ms
FROM parts
GROUP BY tenant, id;
COMMENT ON VIEW latencies IS 'How long each submission waited and was worked on, by the times of its events';
COMMENT ON COLUMN latencies.tenant IS 'Whose submission it is';
COMMENT ON COLUMN latencies.id IS 'The submission';
COMMENT ON COLUMN latencies.builder_wait_ms IS 'From submitted to the first lease of a builder, milliseconds; null until then, as all parts are';
COMMENT ON COLUMN latencies.dependencies_ms IS 'From the newest lease of a builder to its cache-built, or to finished where the build failed; null while the environment is lost';
COMMENT ON COLUMN latencies.runner_wait_ms IS 'From that cache-built to the first lease of a runner after it';
COMMENT ON COLUMN latencies.compile_ms IS 'From the newest lease of a runner to its compiled, the container''s start among it; null where nothing is compiled';
COMMENT ON COLUMN latencies.run_ms IS 'From compiled, or from the lease where nothing was compiled, to finished: all test cases together';
COMMENT ON COLUMN latencies.end_to_end_ms IS 'From submitted to the end, whatever end: the parts before, and the attempts that came to nothing';
COMMENT ON COLUMN latencies.clean_ms IS 'From the end to cleaned';
