-- Every message becomes a row, whatever it is.
INSERT INTO events BY NAME
SELECT
    sequence,
    utc(time_ns) AS time,
    time_ns,
    subject,
    tenant,
    id,
    kind,
    version,
    message_id,
    role,
    lease_number,
    worker,
    id IS NOT NULL AND strays.sequence IS NULL AS counts,
    fault,
    CASE
        WHEN fault IS NOT NULL OR strays.sequence IS NULL THEN NULL
        WHEN status.name IS NULL THEN transition.name || ' before submitted'
        WHEN NOT strays.fits THEN transition.name || ' where the submission is ' || status.name
        ELSE transition.name || ' of a lease that is not the newest, or out of its order'
    END AS stray,
    body,
    raw
FROM incoming
LEFT JOIN strays USING (sequence)
LEFT JOIN folds.status AS status ON status.number = strays.status
LEFT JOIN transition ON transition.number = step;
