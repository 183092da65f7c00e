#: what = "a fork bomb stays within its processes and its time"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_WALL", "TLE_CPU", "RE"]
#: [limits.run]
#: wall_time_ms = 1500
#: processes = 32
bomb() { bomb | bomb & }
bomb 2>/dev/null
while :; do sleep 1; done 2>/dev/null
