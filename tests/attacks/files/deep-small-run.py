#: what = "thirty thousand directories in each other, long links in the deepest, then runs with 16 MiB"
#: stage = "compile"
#: then = "echo ran"
#: has = ["ran"]
#: says = ["deep"]
#: test_cases = [{}, {}]
#: [limits.compile]
#: memory_bytes = 536870912
#: wall_time_ms = 60000
#: cpu_time_ms = 30000
#: [limits.run]
#: memory_bytes = 16777216
import contextlib
import os

with contextlib.suppress(OSError):
    for _ in range(30_000):
        os.mkdir("d" * 250)
        os.chdir("d" * 250)
    print("deep")
    for number in range(40_000):
        os.symlink("y" * 120, "z" * 240 + str(number))
