#: what = "a drip that never ends: TLE, with all that was printed"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_WALL"]
#: has = ["drip 1\ndrip 2\ndrip 3\n"]
#: limits.run.wall_time_ms = 3000
for n in {1..1000}; do
  echo "drip $n"
  sleep 0.1
done
