#: what = "memory by files without a name"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: limits.run.memory_bytes = 67108864
import os

while True:
    os.write(os.memfd_create("room"), b"x" * (8 << 20))
