#: what = "SIGKILL by the program itself is its own signal: neither a limit nor the OOM killer"
#: outcome = ["RUN_ERROR"]
#: run = ["SG"]
#: signal = 9
kill -KILL $$
