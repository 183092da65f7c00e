-- Every message of ENVIRONMENTS becomes a row, whatever it is; the view `environments` does the rest.
INSERT INTO environment_events BY NAME
WITH parsed AS (
    SELECT
        *,
        CASE WHEN fault IS NULL AND json_valid(body) THEN from_json(coalesce(document, body), '{
            "kind": "VARCHAR", "derivation": "VARCHAR", "closure": ["VARCHAR"], "closure_bytes": "BIGINT", "worker": "VARCHAR",
            "tenant": "VARCHAR", "id": "VARCHAR", "private_to": "VARCHAR", "reason": "VARCHAR",
            "pin_sequence": "VARCHAR"}') END AS event
    FROM written
)
SELECT
    sequence,
    utc(time_ns) AS time,
    time_ns,
    subject,
    nullif(regexp_extract(subject, getvariable('environment_pattern'), 1), '') AS key,
    event.kind AS kind,
    message_id,
    fault,
    event.derivation AS derivation,
    len(event.closure) AS closure_paths,
    event.closure_bytes AS closure_bytes,
    event.worker AS worker,
    event.tenant AS tenant,
    event.id AS id,
    event.private_to AS private_to,
    event.reason AS reason,
    CASE WHEN event.pin_sequence IS NOT NULL THEN coalesce(try_cast(event.pin_sequence AS BIGINT), 0) END AS pin_sequence,
    if(json_valid(body), body, NULL) AS body,
    coalesce(raw, if(json_valid(body), NULL, encode(body))) AS raw
FROM parsed
ORDER BY sequence;
