-- Read the batch: address from the subject, everything else from the body's JSON, once for all statements behind. What has
-- another type than it should becomes null; `decode` has checked before.
CREATE OR REPLACE TEMP TABLE parsed AS
SELECT
    sequence,
    nullif(
        regexp_extract(subject, getvariable('subject_pattern'), ['tenant', 'id', 'kind']),
        {'tenant': '', 'id': '', 'kind': ''}
    ) AS address,
    CASE WHEN document IS NOT NULL OR (fault IS NULL AND json_valid(body)) THEN from_json(coalesce(document, body), '{
        "kind": "VARCHAR", "version": "INTEGER", "index": "BIGINT", "role": "VARCHAR", "worker": "VARCHAR", "by": "VARCHAR",
        "lease": {"role": "VARCHAR", "worker": "VARCHAR", "token": "VARCHAR", "number": "BIGINT"},
        "stage": "JSON", "stages": "JSON", "dependencies": "JSON", "request": "JSON", "environment": "JSON",
        "interrupted": {"stage": "VARCHAR", "index": "BIGINT", "stages": "JSON"},
        "digest": "VARCHAR", "caused_by": "VARCHAR", "outcome": "VARCHAR", "message": "VARCHAR", "reason": "VARCHAR"}')
    END AS event
FROM written;

CREATE OR REPLACE TEMP TABLE incoming_stages AS
WITH documents AS (
    SELECT sequence, event.kind AS kind, from_json(
        CASE event.kind
            WHEN 'ran' THEN event.stages
            WHEN 'finished' THEN json_array(event.dependencies)
            WHEN 'cleaned' THEN event.interrupted.stages
            ELSE json_array(event.stage)
        END,
        '[{"outcome": "VARCHAR", "name": "VARCHAR", "exit_code": "BIGINT", "signal": {"number": "BIGINT", "name": "VARCHAR"},
           "cpu_time_ms": "BIGINT", "wall_time_ms": "BIGINT", "memory_peak_bytes": "BIGINT",
           "stdout": {"bytes_total": "BIGINT", "truncated": "BOOLEAN"},
           "stderr": {"bytes_total": "BIGINT", "truncated": "BOOLEAN"},
           "limits": {"wall_time_ms": "BIGINT", "cpu_time_ms": "BIGINT", "memory_bytes": "BIGINT", "processes": "BIGINT",
               "stdout_bytes": "BIGINT", "stderr_bytes": "BIGINT", "file_size_bytes": "BIGINT", "open_files": "BIGINT"},
           "message": "VARCHAR"}]'
        ) AS reports
    FROM parsed
    WHERE event.kind IN ('cache-built', 'compiled', 'ran', 'finished', 'cleaned')
)
SELECT
    sequence,
    place,
    report.outcome,
    report.name,
    report.exit_code,
    report.signal.number AS signal,
    report.signal.name AS signal_name,
    report.cpu_time_ms,
    report.wall_time_ms,
    report.memory_peak_bytes,
    coalesce(report.stdout.bytes_total, 0) AS stdout_bytes,
    coalesce(report.stdout.truncated, FALSE) AS stdout_truncated,
    coalesce(report.stderr.bytes_total, 0) AS stderr_bytes,
    coalesce(report.stderr.truncated, FALSE) AS stderr_truncated,
    report.limits,
    report.message
FROM (SELECT sequence, unnest(reports) AS report, generate_subscripts(reports, 1) - 1 AS place FROM documents)
WHERE report.outcome IS NOT NULL;

CREATE OR REPLACE TEMP TABLE incoming AS
WITH numbered AS (
    SELECT
        *,
        if(event.kind = 'leased', 'leased(' || event.lease.role || ')', event.kind) AS name,
        coalesce(event.lease.role, '') AS lease_role,
        event.kind = 'cleaned' AND event['by'] = 'worker' AS tells
    FROM parsed
), reported AS (
    SELECT sequence, count(*) AS stages, count(*) FILTER (outcome = 'OK') AS passed FROM incoming_stages GROUP BY sequence
)
SELECT
    sequence,
    time_ns,
    subject,
    message_id,
    written AS body,
    if(written IS NULL, coalesce(raw, encode(body)), raw) AS raw,
    fault,
    address.tenant AS tenant,
    address.id AS id,
    coalesce(event.kind, address.kind) AS kind,
    number AS step,
    if(
        document IS NULL, event.version, coalesce(try_cast(written ->> '$.version' AS INTEGER), if(fault IS NULL, 1, NULL))
    ) AS version,
    coalesce(event.lease.role, event.role) AS role,
    coalesce(event.lease.worker, event.worker) AS worker,
    event.lease.token AS lease_token,
    event.lease.number AS lease_number,
    if(event.kind = 'ran', event.index, 0) AS index,
    if(event.kind = 'ran', coalesce(stages, 0), 0) AS stages,
    if(event.kind = 'ran', coalesce(passed, 0), 0) AS passed,
    coalesce(event.kind = 'finished' AND json_type(event.dependencies) = 'OBJECT', FALSE) AS has_dependencies,
    if(tells, event.interrupted.stage, NULL) AS interrupted_stage,
    if(tells, coalesce(event.interrupted.index, 0), NULL) AS interrupted_index,
    if(tells, coalesce(stages, 0), NULL) AS interrupted_stages,
    if(tells, coalesce(passed, 0), NULL) AS interrupted_passed
FROM (SELECT *, try_cast(body AS JSON) AS written FROM written) AS written
JOIN numbered USING (sequence)
LEFT JOIN transition USING (name, lease_role)
LEFT JOIN reported USING (sequence);

-- when: submitted
CREATE OR REPLACE TEMP TABLE incoming_requests AS
SELECT
    sequence,
    digest,
    caused_by,
    coalesce(request.labels, MAP {}) AS labels,
    coalesce(list_transform(request.test_cases, lambda test: test.name), []) AS test_case_names,
    coalesce(list_contains(list_transform(request.files, lambda file: file.name), 'cutor-compile.sh'), FALSE) AS compiles
FROM (
    SELECT sequence, event.digest, event.caused_by, from_json(event.request, '{
        "labels": "MAP(VARCHAR, VARCHAR)", "test_cases": [{"name": "VARCHAR"}], "files": [{"name": "VARCHAR"}]}') AS request
    FROM parsed
    WHERE event.kind = 'submitted'
);

-- when: cache-built
CREATE OR REPLACE TEMP TABLE incoming_builds AS
SELECT sequence, environment.key, environment.derivation, environment.hit
FROM (
    SELECT sequence, from_json(event.environment, '{"key": "VARCHAR", "derivation": "VARCHAR", "hit": "BOOLEAN"}') AS environment
    FROM parsed
    WHERE event.kind = 'cache-built'
);

-- when: finished cancelled rejected parked
CREATE OR REPLACE TEMP TABLE incoming_ends AS
SELECT
    sequence,
    if(event.kind = 'finished', event.outcome, upper(event.kind)) AS outcome,
    coalesce(event.message, event.reason) AS message,
    if(event.kind = 'parked', event.stage ->> '$', NULL) AS parked_stage
FROM parsed
WHERE event.kind IN ('finished', 'cancelled', 'rejected', 'parked');
