-- What the events say that submissions are folded from, once each.

-- when: submitted
INSERT INTO folds.requests
SELECT sequence, utc(time_ns), digest, caused_by, labels, test_case_names, compiles
FROM incoming_requests JOIN (FROM incoming WHERE kind = 'submitted') USING (sequence) ANTI JOIN strays USING (sequence);

-- when: cache-built
INSERT INTO folds.builds
SELECT sequence, utc(time_ns), key, derivation, hit
FROM incoming_builds JOIN (FROM incoming WHERE kind = 'cache-built') USING (sequence) ANTI JOIN strays USING (sequence);

-- when: finished cancelled rejected parked
INSERT INTO folds.ends
SELECT sequence, utc(time_ns), outcome, message, parked_stage
FROM incoming_ends
JOIN (FROM incoming WHERE kind IN ('finished', 'cancelled', 'rejected', 'parked')) USING (sequence)
ANTI JOIN strays USING (sequence);
