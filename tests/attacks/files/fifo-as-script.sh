#: what = "a FIFO in place of the run script: the run waits and is ended, nothing of cutor's waits"
#: stage = "compile"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_WALL"]
#: limits.run.wall_time_ms = 500
rm cutor-run.sh
mkfifo cutor-run.sh
