INSERT INTO events BY NAME
SELECT
    numbers[1] AS sequence,
    utc(numbers[2]) AS time,
    numbers[2] AS time_ns,
    numbers[3] AS version,
    numbers[4] AS lease_number,
    numbers[5] <> 0 AS counts,
    texts[1] AS subject,
    texts[2] AS tenant,
    texts[3] AS id,
    texts[4] AS kind,
    texts[5] AS message_id,
    texts[6] AS role,
    texts[7] AS worker,
    texts[8] AS stray,
    body
FROM small_events;
