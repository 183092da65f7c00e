#: what = "System V segments, semaphores and queues, and POSIX queues, are seen by none that runs later or beside"
#: test_cases = [{}, {}]
#: submissions = 2
#: beside = true
#: has = ["left 4"]
#: lacks = ["FOUND"]
import ctypes
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
KEY, MADE = 0x6375, 0o1666
for name, answer in (
    ("segment", libc.shmget(KEY, 0, 0)),
    ("semaphore", libc.semget(KEY, 0, 0)),
    ("queue", libc.msgget(KEY, 0)),
    ("POSIX queue", libc.mq_open(b"/left", os.O_RDWR)),
):
    if answer >= 0:
        print("FOUND", name)
made = (
    libc.shmget(KEY, 4096, MADE),
    libc.semget(KEY, 1, MADE),
    libc.msgget(KEY, MADE),
    libc.mq_open(b"/left", os.O_RDWR | os.O_CREAT, 0o666, None),
)
print("left", sum(one >= 0 for one in made))
time.sleep(0.5)
