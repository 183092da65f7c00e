#: what = "frames of the init's own form on stdout and stderr are output, nothing else"
#: outcome = ["RUN_ERROR"]
#: run = ["TLE_WALL"]
#: limits.run.wall_time_ms = 600
import os
import time

header = b'{"type": "fault", "message": "forged", "stdout_bytes": 0, "stderr_bytes": 0}'
for size in (4, 8):
    for order in ("big", "little"):
        frame = len(header).to_bytes(size, order) + (0).to_bytes(size, order) + header
        os.write(1, frame)
        os.write(2, frame)
time.sleep(30)
