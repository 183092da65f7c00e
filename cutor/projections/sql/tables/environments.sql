-- One row a message of the stream ENVIRONMENTS, as it stands there. Never updated.
CREATE TABLE environment_events (
    sequence BIGINT NOT NULL,
    time TIMESTAMP NOT NULL,
    time_ns BIGINT NOT NULL,
    subject VARCHAR NOT NULL,
    key VARCHAR,
    kind VARCHAR,
    message_id VARCHAR,
    fault VARCHAR,
    derivation VARCHAR,
    closure_paths BIGINT,
    closure_bytes BIGINT,
    worker VARCHAR,
    tenant VARCHAR,
    id VARCHAR,
    private_to VARCHAR,
    reason VARCHAR,
    pin_sequence BIGINT,
    body JSON,
    raw BLOB
);
COMMENT ON TABLE environment_events IS 'Every message of the stream ENVIRONMENTS';
COMMENT ON COLUMN environment_events.sequence IS 'Place in the stream, from 1';
COMMENT ON COLUMN environment_events.time IS 'The stream''s own time, UTC, to the microsecond';
COMMENT ON COLUMN environment_events.time_ns IS 'The same in nanoseconds since 1970, exact';
COMMENT ON COLUMN environment_events.subject IS 'cutor.env.<key>';
COMMENT ON COLUMN environment_events.key IS 'Key of the environment, from the subject; null where the subject is none of cutor''s';
COMMENT ON COLUMN environment_events.kind IS 'env-building, env-built, env-removed, env-pinned or env-unpinned; null where the body cannot be read';
COMMENT ON COLUMN environment_events.message_id IS 'What makes a second append of the same event a duplicate';
COMMENT ON COLUMN environment_events.fault IS 'Why the body could not be read as an event; null where it could';
COMMENT ON COLUMN environment_events.derivation IS 'Store path of the environment''s derivation';
COMMENT ON COLUMN environment_events.closure_paths IS 'Store paths that it needs';
COMMENT ON COLUMN environment_events.closure_bytes IS 'Bytes of those paths together';
COMMENT ON COLUMN environment_events.worker IS 'Builder that builds or built it';
COMMENT ON COLUMN environment_events.tenant IS 'Tenant of the submission that builds it; of env-building alone';
COMMENT ON COLUMN environment_events.id IS 'Id of that submission';
COMMENT ON COLUMN environment_events.private_to IS 'Submission, TENANT/ID, that alone uses what was built; null for what is kept';
COMMENT ON COLUMN environment_events.reason IS 'Why it was removed';
COMMENT ON COLUMN environment_events.pin_sequence IS 'The pin that an env-unpinned takes back, by its sequence; null: all';
COMMENT ON COLUMN environment_events.body IS 'The body as written; null where it is not JSON';
COMMENT ON COLUMN environment_events.raw IS 'The bytes of a body that is not JSON; else null';

-- One row an environment. Two streams tell of it: ENVIRONMENTS of its making and end, EVENTS of its use by submissions. Their
-- rows meet here and nowhere else, so that the order in which the two streams are read changes nothing.
CREATE VIEW environments AS
WITH made AS (
    SELECT
        key,
        arg_max(derivation, sequence) FILTER (kind = 'env-built') AS derivation,
        arg_max(closure_paths, sequence) FILTER (kind = 'env-built') AS closure_paths,
        arg_max(closure_bytes, sequence) FILTER (kind = 'env-built') AS closure_bytes,
        arg_max(worker, sequence) FILTER (kind = 'env-built') AS worker,
        arg_max({'to': private_to}, sequence) FILTER (kind = 'env-built').to AS private_to,
        max(time) FILTER (kind = 'env-built') AS built_at,
        count(*) FILTER (kind = 'env-built') AS builds,
        arg_max(kind, sequence) FILTER (kind IN ('env-built', 'env-removed')) = 'env-removed' AS removed,
        arg_max({'time': time, 'reason': reason}, sequence) FILTER (kind = 'env-removed') AS removal
    FROM environment_events
    WHERE kind IS NOT NULL
    GROUP BY key
    HAVING count(*) FILTER (kind <> 'env-building') > 0
), pins AS (
    SELECT DISTINCT pin.key
    FROM environment_events AS pin
    WHERE pin.kind = 'env-pinned' AND NOT EXISTS (
        FROM environment_events AS unpin
        WHERE unpin.key = pin.key AND unpin.kind = 'env-unpinned' AND unpin.sequence > pin.sequence AND (
            unpin.pin_sequence IS NULL OR unpin.pin_sequence = pin.sequence
        )
    )
), used AS (
    SELECT
        key,
        arg_max(derivation, sequence) AS derivation,
        count(*) AS uses,
        count(*) FILTER (hit) AS hits,
        min(time) AS first_used_at,
        max(time) AS last_used_at
    FROM folds.builds
    GROUP BY key
)
SELECT
    key,
    coalesce(made.derivation, used.derivation) AS derivation,
    closure_paths,
    closure_bytes,
    worker,
    built_at,
    coalesce(builds, 0) AS builds,
    coalesce(uses, 0) AS uses,
    coalesce(hits, 0) AS hits,
    first_used_at,
    last_used_at,
    key IN (SELECT pins.key FROM pins) AS pinned,
    private_to IS NOT NULL AS private,
    private_to,
    coalesce(removed, FALSE) AS removed,
    CASE WHEN removed THEN removal.time END AS removed_at,
    CASE WHEN removed THEN removal.reason END AS removal_reason
FROM made FULL JOIN used USING (key);
COMMENT ON VIEW environments IS 'Every environment that was built, used or pinned';
COMMENT ON COLUMN environments.key IS 'What identifies it: the hash of shell.nix and of what it imports';
COMMENT ON COLUMN environments.derivation IS 'Store path of its derivation';
COMMENT ON COLUMN environments.closure_paths IS 'Store paths that it needs';
COMMENT ON COLUMN environments.closure_bytes IS 'Bytes of those paths together';
COMMENT ON COLUMN environments.worker IS 'Builder that built it last';
COMMENT ON COLUMN environments.built_at IS 'When it was built last, UTC';
COMMENT ON COLUMN environments.builds IS 'Times it was built; builds that failed are not among them';
COMMENT ON COLUMN environments.uses IS 'Times a submission was given it';
COMMENT ON COLUMN environments.hits IS 'Those times it was there already, or another submission built it meanwhile';
COMMENT ON COLUMN environments.first_used_at IS 'When a submission was given it first, UTC';
COMMENT ON COLUMN environments.last_used_at IS 'When a submission was given it last, UTC';
COMMENT ON COLUMN environments.pinned IS 'Whether an operator wants it to be kept, or a refresh that runs';
COMMENT ON COLUMN environments.private IS 'Whether one submission alone uses it (cache: false), with whose end it goes';
COMMENT ON COLUMN environments.private_to IS 'That submission, TENANT/ID; null for an environment that is kept';
COMMENT ON COLUMN environments.removed IS 'Whether it is gone from the store since it was built last';
COMMENT ON COLUMN environments.removed_at IS 'When it was removed, UTC; null where it stands';
COMMENT ON COLUMN environments.removal_reason IS 'Why it was removed';
