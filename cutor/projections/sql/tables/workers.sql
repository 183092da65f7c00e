-- One row a worker and role. What counts here is what the log holds of it: a worker that waits for work is in no event.
-- Nanoseconds are added as integers: a sum of DOUBLEs depends on the order of its rows, and views that are rebuilt are compared.
CREATE VIEW workers AS
WITH seen AS (
    SELECT worker, role, min(time) AS first_seen_at, max(time) AS last_seen_at
    FROM events
    WHERE counts AND lease_number IS NOT NULL
    GROUP BY ALL
), work AS (
    SELECT
        worker,
        role,
        count(*) AS attempts,
        count(*) FILTER (ended_as IN ('done', 'rejected')) AS steps_done,
        count(*) FILTER (ended_as IN ('superseded', 'parked')) AS leases_lost,
        count(*) FILTER (ended_as IS NULL) AS in_hand,
        coalesce(sum((duration_ms * 1e6)::HUGEINT), 0) / 1e6 AS busy_ms
    FROM attempts
    GROUP BY ALL
)
SELECT worker, role, first_seen_at, last_seen_at, attempts, steps_done, leases_lost, in_hand, busy_ms
FROM seen JOIN work USING (worker, role);
COMMENT ON VIEW workers IS 'Every worker that took a lease, by role';
COMMENT ON COLUMN workers.worker IS 'Its name, as leases have it';
COMMENT ON COLUMN workers.role IS 'builder or runner';
COMMENT ON COLUMN workers.first_seen_at IS 'Time of its first event that counted, UTC';
COMMENT ON COLUMN workers.last_seen_at IS 'Time of its last one, UTC; one that finds no work says nothing';
COMMENT ON COLUMN workers.attempts IS 'Leases that it took';
COMMENT ON COLUMN workers.steps_done IS 'Those of them whose step has a result, or whose request it rejected';
COMMENT ON COLUMN workers.leases_lost IS 'Those of them that came to nothing: another lease followed, or the submission was parked';
COMMENT ON COLUMN workers.in_hand IS 'Those of them that nothing has ended yet: what it works on, if it lives';
COMMENT ON COLUMN workers.busy_ms IS 'Milliseconds from lease to end, of all that have ended; leases that it held at one time count each';
