#: what = "memory that fills while the init holds all the output there may be"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: printed_at_least = 6553600
#: limits.run.memory_bytes = 33554432
#: limits.run.stdout_bytes = 33554432
#: limits.run.file_size_bytes = 536870912
import os

os.fork()
os.fork()
for _ in range(100):
    os.write(1, b"x" * 65536)
file = os.open("/dev/shm/file", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
while True:
    os.write(file, b"x" * 65536)
