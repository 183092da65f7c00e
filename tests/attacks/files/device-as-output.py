#: what = "links, FIFOs, sockets and devices among what compile leaves: nothing outside is read, followed or waited for"
#: stage = "compile"
#: then = "cat shadow passwd; ls > /dev/null; echo ran"
#: test_cases = [{}, {}]
#: has = ["ran"]
#: lacks = ["DEVICE", "root:"]
import os
import socket

os.symlink("/etc/shadow", "shadow")
os.symlink("/proc/1/root/etc/passwd", "passwd")
os.symlink("loop", "loop")
os.symlink("/", "everything")
os.symlink("../../../../../../../../etc", "up")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
try:
    os.mknod("sda", 0o60666, os.makedev(8, 0))
    print("DEVICE")
except PermissionError:
    pass
