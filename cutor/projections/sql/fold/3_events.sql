-- Every message becomes a row, whatever it is.
INSERT INTO events BY NAME
SELECT
    sequence,
    utc(incoming.time_ns) AS time,
    incoming.time_ns,
    subject,
    tenant,
    id,
    kind,
    if(document IS NULL, version, coalesce(try_cast(body ->> '$.version' AS INTEGER), if(fault IS NULL, 1, NULL))) AS version,
    message_id,
    role,
    lease.number AS lease_number,
    worker,
    counted.sequence IS NOT NULL AS counts,
    fault,
    CASE
        WHEN fault IS NOT NULL OR strays.sequence IS NULL THEN NULL
        WHEN status.name IS NULL THEN step.name || ' before submitted'
        WHEN NOT strays.fits THEN step.name || ' where the submission is ' || status.name
        ELSE step.name || ' of a lease that is not the newest, or out of its order'
    END AS stray,
    written AS body,
    CASE WHEN written IS NULL THEN coalesce(raw, encode(body)) ELSE raw END AS raw
FROM (SELECT *, try_cast(body AS JSON) AS written FROM incoming) AS incoming
JOIN step USING (sequence)
LEFT JOIN (SELECT sequence FROM counted) AS counted USING (sequence)
LEFT JOIN strays USING (sequence)
LEFT JOIN folds.status AS status ON status.number = strays.status
ORDER BY sequence;
