#: what = "files without end in /box: the inodes are bounded"
#: has = ["bounded"]
#: [limits.run]
#: memory_bytes = 536870912
#: cpu_time_ms = 20000
import os

count = 0
try:
    for count in range(200_000):
        os.close(os.open(f"/box/{count}", os.O_CREAT | os.O_EXCL))
except OSError:
    print("bounded")
else:
    print("UNBOUNDED", count)
