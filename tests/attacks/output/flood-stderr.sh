#: what = "a flood of stderr: OLE, with what stdout had"
#: outcome = ["RUN_ERROR"]
#: run = ["OLE"]
#: has = ["before"]
#: within_ms = 20000
#: limits.run.stderr_bytes = 100000
echo before
exec yes flood >&2
