#: what = "abstract sockets and ports of the loopback are seen by none that runs later or beside"
#: test_cases = [{}, {}]
#: submissions = 2
#: beside = true
#: has = ["bound 2"]
#: lacks = ["FOUND"]
import os
import socket
import time

bound = 0
for address in ("\0left-behind", ("127.0.0.1", 4555)):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    asking = socket.socket(family)
    if asking.connect_ex(address) == 0:
        print("FOUND", address)
    mine = socket.socket(family)
    try:
        mine.bind(address)
    except OSError:
        print("FOUND bound", address)
    else:
        mine.listen()
        os.dup(mine.detach())
        bound += 1
print("bound", bound)
with open("/proc/net/unix") as listed:
    if any("@cutor" in line for line in listed):
        print("FOUND a socket of cutor's")
time.sleep(0.4)
