-- What every connection of the writer begins with. `transition` holds the transition table of `cutor.model.state`, filled from
-- there: for each event, and role of the lease it belongs to, the status that follows each status.
CREATE TEMP TABLE transition (
    number UTINYINT NOT NULL,
    name VARCHAR NOT NULL,
    lease_role VARCHAR NOT NULL,
    next UTINYINT[] NOT NULL
);

-- The number of a status in folds.status; of none yet, that of 'before'.
SET VARIABLE statuses = (SELECT map_from_entries(list((coalesce(name, 'before'), number))) FROM folds.status);
CREATE TEMP MACRO status(name) AS getvariable('statuses')[name];

-- Nanoseconds since 1970 as a moment in UTC.
CREATE TEMP MACRO utc(nanoseconds) AS make_timestamp(nanoseconds // 1000);

-- `_lease_counts`, `_is_first` and the lookup in TRANSITIONS of `cutor.model.state`: whether event e changes state s.
CREATE TEMP MACRO counts(s, e) AS coalesce(e.next[s.status] IS NOT NULL AND CASE
    WHEN e.name = 'leased(builder)' THEN e.lease.number = s.builder_leases + 1
    WHEN e.name = 'leased(runner)' THEN e.lease.number = s.runner_leases + 1
    WHEN e.name = 'cleaned' THEN s.cleaned_ns IS NULL
    WHEN e.name IN ('submitted', 'cancelled', 'parked') THEN TRUE
    WHEN e.name = 'ran' THEN e.lease = s.lease AND e.index = s.runs
    ELSE e.lease = s.lease
END, FALSE);

-- `running_stage` there: the stage that the newest lease is at; null where nothing was leased.
CREATE TEMP MACRO running_stage(s, request) AS CASE
    WHEN s.built IS NULL THEN if(s.lease.role = 'builder', 'dependencies', NULL)
    WHEN s.lease.role = 'runner' THEN if(request.compiles AND s.compiled IS NULL, 'compile', 'run')
END;

-- `CHANGES` there, field by field: what each event that counts changes. A lease of a runner, and the loss of the environment,
-- forget what was compiled and run before.
CREATE TEMP MACRO forgets(e) AS e.name IN ('leased(runner)', 'cache-lost');
CREATE TEMP MACRO changed(s, e) AS {
    'status': e.next[s.status],
    'builder_leases': if(e.name = 'leased(builder)', e.lease.number, s.builder_leases),
    'runner_leases': if(e.name = 'leased(runner)', e.lease.number, s.runner_leases),
    'lease': if(e.name IN ('leased(builder)', 'leased(runner)'), e.lease, s.lease),
    'losses': s.losses + (e.name = 'cache-lost')::BIGINT,
    'runs': CASE WHEN forgets(e) THEN 0 WHEN e.name = 'ran' THEN s.runs + e.stages ELSE s.runs END,
    'passed': CASE WHEN forgets(e) THEN 0 WHEN e.name = 'ran' THEN s.passed + e.passed ELSE s.passed END,
    'began': if(forgets(e), e.sequence, s.began),
    'compiled': CASE WHEN forgets(e) THEN NULL WHEN e.name = 'compiled' THEN e.sequence ELSE s.compiled END,
    'submitted': if(e.name = 'submitted', e.sequence, s.submitted),
    'built': CASE e.name WHEN 'cache-lost' THEN NULL WHEN 'cache-built' THEN e.sequence ELSE s.built END,
    'dependencies': CASE
        WHEN e.name = 'cache-lost' THEN NULL
        WHEN e.name = 'cache-built' OR e.has_dependencies THEN e.sequence
        ELSE s.dependencies
    END,
    'ended': if(e.name IN ('finished', 'cancelled', 'rejected', 'parked'), e.sequence, s.ended),
    'cleaned_ns': if(e.name = 'cleaned', e.time_ns, s.cleaned_ns),
    'strays': s.strays,
    'ignored': s.ignored
};
CREATE TEMP MACRO evolve(s, e) AS CASE
    WHEN counts(s, e) THEN changed(s, e)
    ELSE struct_update(
        s,
        strays := s.strays + 1,
        ignored := list_append(
            s.ignored, {'sequence': e.sequence, 'status': s.status, 'fits': coalesce(e.next[s.status] IS NOT NULL, FALSE)}
        )
    )
END;
