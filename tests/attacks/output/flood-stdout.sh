#: what = "a flood of stdout: OLE, with the prefix kept"
#: outcome = ["RUN_ERROR"]
#: run = ["OLE"]
#: has = ["flood\nflood\n"]
#: within_ms = 20000
#: limits.run.stdout_bytes = 100000
exec yes flood
