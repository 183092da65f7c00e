#: what = "locks of open files, which /proc/locks lists to everybody: none can be made, so none tells anything"
#: submissions = 2
#: beside = true
#: test_cases = [{}, {}]
#: has = ["refused"]
#: lacks = ["REACHED"]
import fcntl
import struct
import time

with open("/tmp/mine", "w+") as file:
    for command in (37, 38):  # F_OFD_SETLK and F_OFD_SETLKW
        try:
            fcntl.fcntl(file, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 4242, 1, 0))
            print("REACHED", command)
        except OSError:
            pass
    fcntl.lockf(file, fcntl.LOCK_EX)  # the ordinary ones work
    time.sleep(1)
    with open("/proc/locks") as listed:
        if " 4242 4242" in listed.read():
            print("REACHED a message in the range of a lock")
print("refused")
