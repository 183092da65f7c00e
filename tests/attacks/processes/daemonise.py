#: what = "a daemon in a session of its own ends with its stage, and is not there for the next test case"
#: test_cases = [{}, {}]
#: has = ["0 others"]
#: within_ms = 8000
import os
import time

mine = {1, os.getpid()}
print(sum(1 for name in os.listdir("/proc") if name.isdigit() and int(name) not in mine), "others")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        while True:
            time.sleep(0.01)
    os._exit(0)
time.sleep(0.05)
