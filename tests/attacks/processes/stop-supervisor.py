#: what = "signals to process 1 of the jail, and to everything: the report still comes"
#: has = ["still here"]
import os
import signal

for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGTSTP):
    try:
        os.kill(1, number)
    except PermissionError:
        print("refused")
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    print("nobody else")
print("still here")
