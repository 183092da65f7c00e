#: what = "a compile step that leaves as many empty files as it can: the runs still start, or the user is told"
#: stage = "compile"
#: then = "echo ran"
#: outcome = ["OK", "RUN_ERROR", "COMPILE_ERROR"]
#: compile = ["OK", "MLE"]
#: run = ["OK", "MLE", "RE"]
#: [limits.compile]
#: cpu_time_ms = 20000
import os

try:
    for count in range(200_000):
        os.close(os.open(f"{count}", os.O_CREAT | os.O_EXCL))
except OSError as error:
    print(count, error)
