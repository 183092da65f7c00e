#: what = "CPU time that daemonised children use counts, though no parent ever waits for them"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_CPU"]
#: [limits.run]
#: cpu_time_ms = 700
#: wall_time_ms = 30000
import os
import time

for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                pass
        os._exit(0)
while True:
    time.sleep(1)
