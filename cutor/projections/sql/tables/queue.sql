-- One row a submission that has not ended. The newest event of these kinds says whose turn it is, and since when.
CREATE VIEW in_progress AS
WITH newest AS (
    SELECT
        tenant,
        id,
        arg_max({'kind': kind, 'role': role, 'worker': worker, 'attempt': lease_number, 'time': time}, sequence) AS event
    FROM events SEMI JOIN (FROM folds.submissions WHERE ended IS NULL AND submitted IS NOT NULL) USING (tenant, id)
    WHERE counts AND kind IN ('submitted', 'leased', 'cache-built', 'cache-lost')
    GROUP BY tenant, id
)
SELECT
    tenant,
    id,
    CASE event.kind WHEN 'leased' THEN event.role WHEN 'cache-built' THEN 'runner' ELSE 'builder' END AS role,
    event.kind = 'leased' AS leased,
    event.time AS since,
    CASE WHEN event.kind = 'leased' THEN event.worker END AS worker,
    CASE WHEN event.kind = 'leased' THEN event.attempt END AS attempt
FROM newest;
COMMENT ON VIEW in_progress IS 'Every submission that has not ended: who is to attend to it, and since when';
COMMENT ON COLUMN in_progress.tenant IS 'Whose submission it is';
COMMENT ON COLUMN in_progress.id IS 'The submission';
COMMENT ON COLUMN in_progress.role IS 'Role whose step is next, or under way: builder or runner';
COMMENT ON COLUMN in_progress.leased IS 'Whether a worker has it in hand; false: it waits';
COMMENT ON COLUMN in_progress.since IS 'Since when it waits, or is in hand, UTC';
COMMENT ON COLUMN in_progress.worker IS 'Worker that has it in hand; null where it waits';
COMMENT ON COLUMN in_progress.attempt IS 'Number of that worker''s lease; null where it waits';

-- One row a role, also where nothing waits.
CREATE VIEW queue AS
SELECT
    role,
    count(id) FILTER (NOT leased) AS waiting,
    min(since) FILTER (NOT leased) AS waiting_since,
    count(id) FILTER (leased) AS in_hand,
    min(since) FILTER (leased) AS in_hand_since
FROM (VALUES ('builder'), ('runner')) AS roles (role) LEFT JOIN in_progress USING (role)
GROUP BY role;
COMMENT ON VIEW queue IS 'How much waits for each role, and how much is in hand, at the checkpoint';
COMMENT ON COLUMN queue.role IS 'builder or runner';
COMMENT ON COLUMN queue.waiting IS 'Submissions that wait for one';
COMMENT ON COLUMN queue.waiting_since IS 'Since when the first of them waits, UTC; null where none does';
COMMENT ON COLUMN queue.in_hand IS 'Submissions that one has leased';
COMMENT ON COLUMN queue.in_hand_since IS 'When the oldest of these leases was taken, UTC; null where there is none';
