#: what = "a compile step that leaves as many empty files as it can: the runs still start"
#: stage = "compile"
#: then = "echo ran"
#: has = ["ran"]
#: says = ["ENOSPC"]
#: [limits.compile]
#: cpu_time_ms = 20000
import errno
import os

try:
    for count in range(200_000):
        os.close(os.open(f"{count}", os.O_CREAT | os.O_EXCL))
except OSError as error:
    print(count, errno.errorcode[error.errno])
