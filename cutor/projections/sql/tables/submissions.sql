-- One row a submission. The fold keeps numbers, one short row a submission, that name the events which count for it; what those
-- events say is stored once, beside. The view `submissions` puts the parts together.

-- The state of `cutor.model.state`, as far as the next event needs it. Rows without `submitted` are strays that came too early.
CREATE TABLE folds.settled (
    tenant VARCHAR,
    id VARCHAR,
    status UTINYINT NOT NULL,          -- place in folds.status; 1 before `submitted`
    builder_leases BIGINT NOT NULL,
    runner_leases BIGINT NOT NULL,
    lease STRUCT (role VARCHAR, worker VARCHAR, token VARCHAR, number BIGINT),
    losses BIGINT NOT NULL,            -- times the environment was lost
    runs BIGINT NOT NULL,              -- test cases that are current
    passed BIGINT NOT NULL,            -- those of them that are OK
    began BIGINT NOT NULL,             -- sequence of the event that forgot earlier compile and runs
    compiled BIGINT,                   -- sequences of the events that count for these
    submitted BIGINT,
    built BIGINT,
    dependencies BIGINT,
    ended BIGINT,
    cleaned_ns BIGINT,                 -- time of `cleaned`
    strays BIGINT NOT NULL,
    last_sequence BIGINT NOT NULL
);
CREATE INDEX settled_id ON folds.settled (id);

-- The same, of small batches: each appends what its submissions came to. The newest row of a submission, by `last_sequence`, takes
-- the place of its row in folds.settled; settle.sql works it in from time to time. The numbers are those of folds.moved: what an
-- append costs goes by its columns. An array, and no list: with a row that has a list, DuckDB logs those of up to 2,047 rows before it.
CREATE TABLE folds.moving (
    tenant VARCHAR,
    id VARCHAR,
    last_sequence BIGINT NOT NULL,
    numbers BIGINT[14] NOT NULL,
    lease STRUCT (role VARCHAR, worker VARCHAR, token VARCHAR, number BIGINT)
);

CREATE VIEW folds.moved AS
SELECT
    tenant,
    id,
    numbers[1]::UTINYINT AS status,
    numbers[2] AS builder_leases,
    numbers[3] AS runner_leases,
    lease,
    numbers[4] AS losses,
    numbers[5] AS runs,
    numbers[6] AS passed,
    numbers[7] AS began,
    numbers[8] AS compiled,
    numbers[9] AS submitted,
    numbers[10] AS built,
    numbers[11] AS dependencies,
    numbers[12] AS ended,
    numbers[13] AS cleaned_ns,
    numbers[14] AS strays,
    last_sequence
FROM folds.moving;

CREATE VIEW folds.submissions AS
FROM folds.settled ANTI JOIN folds.moving USING (tenant, id)
UNION ALL
FROM folds.moved
QUALIFY row_number() OVER (PARTITION BY tenant, id ORDER BY last_sequence DESC) = 1;

-- The numbers of the statuses, from the transition table of `cutor.model.state`.
CREATE TABLE folds.status (
    number UTINYINT NOT NULL,
    name VARCHAR
);

-- What a `submitted` event says, one row a submission.
CREATE TABLE folds.requests (
    sequence BIGINT NOT NULL,
    time TIMESTAMP NOT NULL,
    digest VARCHAR,
    caused_by VARCHAR,
    labels MAP(VARCHAR, VARCHAR),
    test_case_names VARCHAR[],
    compiles BOOLEAN                   -- whether it brings a compile script
);

-- What a `cache-built` event says of the environment.
CREATE TABLE folds.builds (
    sequence BIGINT NOT NULL,
    time TIMESTAMP NOT NULL,
    key VARCHAR,
    derivation VARCHAR,
    hit BOOLEAN
);

-- What a terminal event says.
CREATE TABLE folds.ends (
    sequence BIGINT NOT NULL,
    time TIMESTAMP NOT NULL,
    outcome VARCHAR,
    message VARCHAR,
    parked_stage VARCHAR
);

CREATE VIEW submissions AS
SELECT
    submission.tenant,
    submission.id,
    status.name AS status,
    ends.outcome,
    ends.message,
    submission.builder_leases AS builder_attempts,
    submission.runner_leases AS runner_attempts,
    builds.key AS environment_key,
    builds.derivation AS environment_derivation,
    builds.hit AS environment_hit,
    submission.losses AS environment_losses,
    submission.lease.worker AS worker,
    ends.parked_stage,
    len(requests.test_case_names) AS test_cases,
    submission.runs AS test_cases_run,
    submission.passed AS test_cases_passed,
    requests.test_case_names,
    requests.labels,
    requests.caused_by,
    requests.digest,
    requests.time AS submitted_at,
    ends.time AS finished_at,
    make_timestamp(submission.cleaned_ns // 1000) AS cleaned_at,
    submission.submitted AS first_sequence,
    submission.last_sequence,
    submission.strays
FROM folds.submissions AS submission
JOIN folds.status AS status ON status.number = submission.status
JOIN folds.requests AS requests ON requests.sequence = submission.submitted
LEFT JOIN folds.builds AS builds ON builds.sequence = submission.built
LEFT JOIN folds.ends AS ends ON ends.sequence = submission.ended;
COMMENT ON VIEW submissions IS 'Every submission as its events tell it';
COMMENT ON COLUMN submissions.tenant IS 'Whose submission it is';
COMMENT ON COLUMN submissions.id IS 'Its id, unique within the tenant';
COMMENT ON COLUMN submissions.status IS 'SUBMITTED, DEPENDENCIES_INSTALLED, COMPILED, FINISHED, CANCELLED, REJECTED or PARKED';
COMMENT ON COLUMN submissions.outcome IS 'OK, DEPENDENCY_ERROR, COMPILE_ERROR, RUN_ERROR, WRONG_ANSWER, CANCELLED, REJECTED or PARKED; null until the end';
COMMENT ON COLUMN submissions.message IS 'A sentence about the outcome';
COMMENT ON COLUMN submissions.builder_attempts IS 'Leases that builders took';
COMMENT ON COLUMN submissions.runner_attempts IS 'Leases that runners took';
COMMENT ON COLUMN submissions.environment_key IS 'Key of its environment, once that stands';
COMMENT ON COLUMN submissions.environment_derivation IS 'Store path of the environment''s derivation';
COMMENT ON COLUMN submissions.environment_hit IS 'Whether the environment was there already';
COMMENT ON COLUMN submissions.environment_losses IS 'Times the environment vanished between build and run';
COMMENT ON COLUMN submissions.worker IS 'Worker of the newest lease';
COMMENT ON COLUMN submissions.parked_stage IS 'Stage at which a PARKED submission stopped';
COMMENT ON COLUMN submissions.test_cases IS 'Test cases in the request';
COMMENT ON COLUMN submissions.test_cases_run IS 'Test cases that the current attempt has run';
COMMENT ON COLUMN submissions.test_cases_passed IS 'Those of them that are OK';
COMMENT ON COLUMN submissions.test_case_names IS 'Names of the test cases in the request, null for one without a name';
COMMENT ON COLUMN submissions.labels IS 'Labels of the request: labels[''course'']';
COMMENT ON COLUMN submissions.caused_by IS 'The submission that this one judges again, or retries';
COMMENT ON COLUMN submissions.digest IS 'SHA-256 of the request without its id, in hex: equal requests, equal digests';
COMMENT ON COLUMN submissions.submitted_at IS 'When it was submitted, UTC';
COMMENT ON COLUMN submissions.finished_at IS 'When it ended, whatever its end, UTC';
COMMENT ON COLUMN submissions.cleaned_at IS 'When nothing was left of it, by its worker or by the one that took over, UTC';
COMMENT ON COLUMN submissions.first_sequence IS 'Sequence of its submitted event';
COMMENT ON COLUMN submissions.last_sequence IS 'Sequence of its newest message';
COMMENT ON COLUMN submissions.strays IS 'Messages of it that changed nothing: from elsewhere, or from a worker that had lost its lease';
