#: what = "a flood of both outputs by many processes at once"
#: outcome = ["RUN_ERROR"]
#: run = ["OLE"]
#: within_ms = 20000
#: [limits.run]
#: stdout_bytes = 1000000
#: stderr_bytes = 1000000
import os

for _ in range(5):
    os.fork()
while True:
    os.write(1, b"out" * 1000)
    os.write(2, b"err" * 1000)
