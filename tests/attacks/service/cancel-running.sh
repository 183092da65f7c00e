#: what = "a cancel in the middle of a run, with processes that would stay"
#: cancel = "leased runner"
#: after_ms = 800
#: outcome = ["CANCELLED"]
#: run = ["CANCELLED"]
#: limits.run.wall_time_ms = 60000
for n in 1 2 3 4 5; do
  python3 -c 'import os, time; os.setsid(); time.sleep(100)' < /dev/null > /dev/null 2>&1 &
done
trap '' TERM INT HUP
sleep 50
