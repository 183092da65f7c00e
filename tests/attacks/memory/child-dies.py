#: what = "a child that dies for want of memory while its parent ends well"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: limits.run.memory_bytes = 67108864
import os

if os.fork() == 0:
    hoard = bytearray(100 << 20)
    for place in range(0, len(hoard), 4096):
        hoard[place] = 1
    os._exit(0)
os.wait()
print("all is well")
