-- One row a lease that counted. Between a lease and the event that ends it nothing else of these kinds can count (`TRANSITIONS` of
-- `cutor.model.state`), so the next of them is its end.
CREATE VIEW attempts AS
WITH marks AS (
    SELECT
        tenant,
        id,
        role,
        lease_number,
        worker,
        kind,
        sequence,
        time_ns,
        lead(kind) OVER later AS end_kind,
        lead(sequence) OVER later AS end_sequence,
        lead(time_ns) OVER later AS end_ns
    FROM events
    WHERE counts AND kind IN ('leased', 'cache-built', 'cache-lost', 'finished', 'cancelled', 'rejected', 'parked')
    WINDOW later AS (PARTITION BY tenant, id ORDER BY sequence)
), late AS (
    SELECT tenant, id, role, lease_number, count(*) AS strays
    FROM events
    WHERE NOT counts AND lease_number IS NOT NULL AND kind <> 'leased'
    GROUP BY ALL
)
SELECT
    tenant,
    id,
    role,
    lease_number AS attempt,
    worker,
    CASE
        WHEN end_kind IN ('cache-built', 'finished') THEN 'done'
        WHEN end_kind = 'leased' THEN 'superseded'
        ELSE end_kind
    END AS ended_as,
    make_timestamp(time_ns // 1000) AS began_at,
    make_timestamp(end_ns // 1000) AS ended_at,
    (end_ns - time_ns) / 1e6 AS duration_ms,
    coalesce(late.strays, 0) AS strays,
    sequence AS began_sequence,
    end_sequence AS ended_sequence
FROM marks LEFT JOIN late USING (tenant, id, role, lease_number)
WHERE kind = 'leased';
COMMENT ON VIEW attempts IS 'Every lease that a worker took of a submission''s step, and what came of it';
COMMENT ON COLUMN attempts.tenant IS 'Whose submission it is';
COMMENT ON COLUMN attempts.id IS 'The submission';
COMMENT ON COLUMN attempts.role IS 'builder or runner';
COMMENT ON COLUMN attempts.attempt IS 'Number of the lease, from 1 within role and submission; the same as in `stages`';
COMMENT ON COLUMN attempts.worker IS 'Worker that took it';
COMMENT ON COLUMN attempts.ended_as IS 'done: its step has a result (cache-built or finished); superseded: another lease followed, because the worker died, lost it or handed it back, which the log does not tell apart; cache-lost: the environment was gone; cancelled, rejected or parked: the submission ended so; null: it is in hand, or its worker is gone and nobody else came yet';
COMMENT ON COLUMN attempts.began_at IS 'Time of its leased event, UTC';
COMMENT ON COLUMN attempts.ended_at IS 'Time of the event that ended it, UTC; null where none did yet';
COMMENT ON COLUMN attempts.duration_ms IS 'From the one to the other, milliseconds';
COMMENT ON COLUMN attempts.strays IS 'Events that name this lease and changed nothing: mostly of a worker that had lost it';
COMMENT ON COLUMN attempts.began_sequence IS 'Sequence of its leased event';
COMMENT ON COLUMN attempts.ended_sequence IS 'Sequence of the event that ended it';
