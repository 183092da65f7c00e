-- What the events say that submissions are folded from, once each.

-- when: submitted
INSERT INTO folds.requests
SELECT
    sequence,
    utc(counted.time_ns),
    request.digest,
    request.caused_by,
    coalesce(request.request.labels, MAP {}),
    list_transform(request.request.test_cases, lambda test: test.name),
    list_contains(list_transform(request.request.files, lambda file: file.name), 'cutor-compile.sh')
FROM (
    SELECT *, from_json(coalesce(document, body), '{
        "digest": "VARCHAR", "caused_by": "VARCHAR",
        "request": {"labels": "MAP(VARCHAR, VARCHAR)", "test_cases": [{"name": "VARCHAR"}], "files": [{"name": "VARCHAR"}]}}'
        ) AS request
    FROM counted JOIN incoming USING (sequence)
    WHERE kind = 'submitted'
) AS counted
ORDER BY sequence;

-- when: cache-built
INSERT INTO folds.builds
SELECT sequence, utc(counted.time_ns), environment.key, environment.derivation, environment.hit
FROM (
    SELECT *, from_json(json_extract(coalesce(document, body), '$.environment'), '{
        "key": "VARCHAR", "derivation": "VARCHAR", "hit": "BOOLEAN"}') AS environment
    FROM counted JOIN incoming USING (sequence)
    WHERE kind = 'cache-built'
) AS counted
ORDER BY sequence;

-- when: finished cancelled rejected parked
INSERT INTO folds.ends
SELECT
    sequence,
    utc(counted.time_ns),
    if(kind = 'finished', ended.outcome, upper(kind)),
    coalesce(ended.message, ended.reason),
    if(kind = 'parked', ended.stage, NULL)
FROM (
    SELECT *, from_json(coalesce(document, body), '{
        "outcome": "VARCHAR", "message": "VARCHAR", "reason": "VARCHAR", "stage": "VARCHAR"}') AS ended
    FROM counted JOIN incoming USING (sequence)
    WHERE kind IN ('finished', 'cancelled', 'rejected', 'parked')
) AS counted
ORDER BY sequence;
