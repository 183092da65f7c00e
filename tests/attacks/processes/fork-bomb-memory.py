#: what = "a fork bomb whose every process takes memory: the limit holds for all of them together"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: [limits.run]
#: wall_time_ms = 5000
#: memory_bytes = 134217728
import os
import time

hoard = []
while True:
    try:
        child = os.fork()
    except BlockingIOError:  # as many as may be: now they only need to take what they want
        time.sleep(0.01)
        continue
    if child == 0:
        hoard.append(b"x" * (10 << 20))
        time.sleep(30)
