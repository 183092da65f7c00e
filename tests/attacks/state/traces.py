#: what = "what one leaves in the kernel's counters of its namespaces, and in the store's access times, no other finds"
#: submissions = 2
#: beside = true
#: test_cases = [{}, {}]
#: has = ["looked"]
#: lacks = ["FOUND"]
import ctypes
import fcntl
import os
import shutil
import time

libc = ctypes.CDLL(None, use_errno=True)
for name in ("shmget", "semget", "msgget"):  # the first identifier of a namespace of its own is 0
    arguments = (0, 1, 0o1600) if name != "msgget" else (0, 0o1600)
    if found := getattr(libc, name)(*arguments):
        print("FOUND", name, found)
if os.getpid() > 3:
    print("FOUND processes before", os.getpid())
program = os.path.realpath(shutil.which("gcc"))
before = os.stat(program).st_atime_ns
with open(program, "rb") as file:
    file.read()
    for command, argument in ((fcntl.F_SETLEASE, fcntl.F_RDLCK), (fcntl.F_SETLEASE, fcntl.F_WRLCK)):
        try:
            fcntl.fcntl(file, command, argument)
            print("FOUND a lease")
        except OSError:
            pass
time.sleep(0.5)
if os.stat(program).st_atime_ns != before:
    print("FOUND an access time")
for name in ("keys", "key-users"):
    if os.path.exists(f"/proc/{name}") and open(f"/proc/{name}").read():
        print("FOUND", name)
if os.uname().nodename != "cutor" or os.listdir("/tmp") or os.listdir("/dev/shm"):
    print("FOUND what another left", os.uname().nodename)
open("/tmp/left", "w").close()
print("looked")
