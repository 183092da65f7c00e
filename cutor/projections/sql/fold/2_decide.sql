-- Where the submissions stand after the batch, and what is to be known of them beside that.
CREATE OR REPLACE TEMP TABLE folded AS
SELECT
    * EXCLUDE (is_orderly),
    NULL::STRUCT("sequence" BIGINT, status UTINYINT, fits BOOLEAN)[] AS ignored,
    NULL::BIGINT AS told
FROM lives
WHERE is_orderly;

-- Fold all others: for every such submission the state after the batch, from the state before and its events in order. `list_sort`
-- goes by the first field, the sequence. (`list(… ORDER BY sequence)` does the same in three times the time.) A reduction wants
-- one type for what it goes over and what it comes to: a pair of state and event, of which the one or the other is null.
-- when: disorderly
INSERT INTO folded BY NAME
WITH histories AS (
    SELECT
        tenant,
        id,
        max(sequence) AS last_sequence,
        list_sort(list({
            'sequence': sequence,
            'time_ns': time_ns,
            'name': name,
            'next': next,
            'lease': if(
                lease_token IS NULL, NULL, {'role': role, 'worker': worker, 'token': lease_token, 'number': lease_number}
            ),
            'index': index,
            'stages': stages,
            'passed': passed,
            'has_dependencies': has_dependencies
        })) AS history
    FROM incoming SEMI JOIN (FROM lives WHERE NOT is_orderly) AS disorderly USING (tenant, id) LEFT JOIN transition ON number = step
    GROUP BY tenant, id
), starts AS (
    SELECT
        tenant,
        id,
        histories.last_sequence,
        history,
        old.status IS NOT NULL AS is_old,
        old.dependencies AS old_dependencies,
        if(old.compiled IS NOT NULL OR old.runs > 0, old.began, NULL) AS old_began,
        {
            'status': coalesce(old.status, status('before')),
            'builder_leases': coalesce(old.builder_leases, 0),
            'runner_leases': coalesce(old.runner_leases, 0),
            'lease': old.lease,
            'losses': coalesce(old.losses, 0),
            'runs': coalesce(old.runs, 0),
            'passed': coalesce(old.passed, 0),
            'began': coalesce(old.began, 0),
            'compiled': old.compiled,
            'submitted': old.submitted,
            'built': old.built,
            'dependencies': old.dependencies,
            'ended': old.ended,
            'cleaned_ns': old.cleaned_ns,
            'strays': coalesce(old.strays, 0),
            'ignored': []::STRUCT("sequence" BIGINT, status UTINYINT, fits BOOLEAN)[]
        } AS state
    FROM folds.settled AS old RIGHT JOIN histories USING (tenant, id)
), ends AS (
    SELECT
        tenant,
        id,
        last_sequence,
        is_old,
        old_dependencies,
        old_began,
        list_reduce(
            list_transform(history, lambda event: {'state': if(TRUE, NULL, state), 'event': event}),
            lambda before, now: {'state': evolve(before.state, now.event), 'event': NULL},
            {'state': state, 'event': NULL}
        ).state AS state
    FROM starts
)
SELECT * EXCLUDE (state), unnest(state) FROM ends;

-- The events that changed none, each with the status that it met, and whether it has a place there at all.
CREATE OR REPLACE TEMP TABLE strays AS
SELECT unnest(ignored, recursive := TRUE) FROM folded;
