-- The newest of what small batches left in folds.moving takes its place in folds.settled.
CREATE OR REPLACE TEMP TABLE newest AS
FROM folds.moved
QUALIFY row_number() OVER (PARTITION BY tenant, id ORDER BY last_sequence DESC) = 1;

UPDATE folds.settled SET
    status = newest.status,
    builder_leases = newest.builder_leases,
    runner_leases = newest.runner_leases,
    lease = newest.lease,
    losses = newest.losses,
    runs = newest.runs,
    passed = newest.passed,
    began = newest.began,
    compiled = newest.compiled,
    submitted = newest.submitted,
    built = newest.built,
    dependencies = newest.dependencies,
    ended = newest.ended,
    cleaned_ns = newest.cleaned_ns,
    strays = newest.strays,
    last_sequence = newest.last_sequence
FROM newest
WHERE (settled.tenant, settled.id) = (newest.tenant, newest.id);

INSERT INTO folds.settled FROM newest ANTI JOIN folds.settled USING (tenant, id);

TRUNCATE folds.moving;
