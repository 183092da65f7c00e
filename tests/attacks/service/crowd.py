#: what = "a hundred normal submissions at once, with one among them that takes all it can"
#: crowd = 100
#: outcome = ["RUN_ERROR"]
#: run = ["MLE", "TLE_CPU", "TLE_WALL"]
#: [limits.run]
#: memory_bytes = 134217728
#: cpu_time_ms = 2000
#: wall_time_ms = 8000
import os

hoard = []
for _ in range(4):
    os.fork()
while True:
    hoard.append(os.urandom(1 << 20))
