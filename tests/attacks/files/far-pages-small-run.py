#: what = "65 thousand pages far from each other in sparse files, then runs with 16 MiB"
#: stage = "compile"
#: then = "echo ran"
#: has = ["ran"]
#: says = ["far apart"]
#: test_cases = [{}, {}]
#: [limits.compile]
#: memory_bytes = 536870912
#: wall_time_ms = 60000
#: cpu_time_ms = 30000
#: [limits.run]
#: memory_bytes = 16777216
import contextlib
import os

APART_BYTES = 64 * 4096  # each page needs a node of the kernel's index of its own

with contextlib.suppress(OSError):
    for number in range(300):
        file = os.open(f"f{number}", os.O_CREAT | os.O_RDWR)
        for page in range(255):
            os.pwrite(file, b"x", page * APART_BYTES)
        os.close(file)
print(number, "files of pages far apart")
