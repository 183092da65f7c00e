#: what = "memory by access lists that every new directory inherits, which the kernel charges to nobody"
#: test_cases = [{}, {}]
#: has = ["refused"]
#: lacks = ["REACHED"]
import os
import struct

ANY = 0xFFFFFFFF
entries = [(1, 7, ANY), *[(2, 7, 1000)] * 8000, (4, 7, ANY), (16, 7, ANY), (32, 5, ANY)]
access_list = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
for place in ("/tmp", "/dev/shm", "/box"):
    for name, value in (("system.posix_acl_default", access_list), ("system.posix_acl_access", access_list), ("user.x", b"y")):
        try:
            os.setxattr(place, name, value)
            print("REACHED", place, name)
        except OSError:
            pass
print("refused")
