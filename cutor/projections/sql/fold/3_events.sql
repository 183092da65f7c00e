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
    if(document IS NULL, version, try_cast(body ->> '$.version' AS INTEGER)) AS version,
    message_id,
    role,
    lease.number AS lease_number,
    worker,
    counted.sequence IS NOT NULL AS counts,
    fault,
    if(json_valid(body), body, NULL) AS body,
    coalesce(raw, if(json_valid(body), NULL, encode(body))) AS raw
FROM incoming
JOIN step USING (sequence)
LEFT JOIN (SELECT sequence FROM counted) AS counted USING (sequence)
ORDER BY sequence;
