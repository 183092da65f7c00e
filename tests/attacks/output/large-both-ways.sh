#: what = "100 MB in and the same 100 MB out: no deadlock, no byte lost"
#: input_bytes = 100000000
#: echo = true
#: [limits.run]
#: wall_time_ms = 60000
#: cpu_time_ms = 60000
#: stdout_bytes = 100000000
exec cat
