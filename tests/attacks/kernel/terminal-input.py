#: what = "typing into a terminal as if its owner did (TIOCSTI), also with high bits that a filter may overlook"
#: has = ["refused"]
#: lacks = ["REACHED"]
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
for request in (0x5412, 0x100005412, 0xFFFFFFFF00005412):
    for descriptor in (0, 1, 2):
        libc.syscall(16, descriptor, ctypes.c_ulong(request), b"x")
        if ctypes.get_errno() != errno.EPERM:
            print("REACHED", hex(request), os.strerror(ctypes.get_errno()))
for name in ("/dev/tty", "/dev/ptmx", "/dev/pts/ptmx", "/dev/console"):
    if os.path.exists(name):
        print("REACHED", name)
print("refused")
