-- Read the batch: address from the subject, what decides from the body. The bodies themselves stay in `incoming`.
CREATE OR REPLACE TEMP TABLE step AS
WITH parsed AS (
    SELECT
        sequence,
        time_ns,
        nullif(
            regexp_extract(subject, getvariable('subject_pattern'), ['tenant', 'id', 'kind']),
            {'tenant': '', 'id': '', 'kind': ''}
        ) AS address,
        CASE WHEN document IS NOT NULL OR (fault IS NULL AND json_valid(body))
            THEN from_json(coalesce(document, body), event_shape())
        END AS event
    FROM incoming
), named AS (
    SELECT
        *,
        if(event.kind = 'leased', 'leased(' || event.lease.role || ')', event.kind) AS name,
        coalesce(event.lease.role, '') AS lease_role
    FROM parsed
)
SELECT
    sequence,
    time_ns,
    address.tenant AS tenant,
    address.id AS id,
    coalesce(event.kind, address.kind) AS kind,
    name,
    next,
    event.version AS version,
    event.lease AS lease,
    coalesce(event.lease.role, event.role) AS role,
    coalesce(event.lease.worker, event.worker) AS worker,
    event.index AS index,
    len(event.stages) AS stages,
    len(list_filter(event.stages, lambda stage: stage.outcome = 'OK')) AS passed,
    coalesce(event.kind = 'finished' AND json_type(event.dependencies) = 'OBJECT', FALSE) AS has_dependencies,
    event['by'] AS cleaned_by,
    {
        'stage': event.interrupted.stage,
        'index': coalesce(event.interrupted.index, 0),
        'stages': len(event.interrupted.stages),
        'passed': len(list_filter(event.interrupted.stages, lambda stage: stage.outcome = 'OK'))
    } AS interrupted
FROM named LEFT JOIN transition USING (name, lease_role);
