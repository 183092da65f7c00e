#: what = "a program that ignores every signal is ended all the same"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_WALL"]
#: within_ms = 5000
#: [limits.run]
#: wall_time_ms = 500
import signal
import time

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(1)
