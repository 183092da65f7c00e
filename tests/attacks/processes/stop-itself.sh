#: what = "a program that stops itself is ended by its wall time"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_WALL"]
#: has = ["before"]
#: within_ms = 5000
#: [limits.run]
#: wall_time_ms = 500
echo before
kill -STOP $$
