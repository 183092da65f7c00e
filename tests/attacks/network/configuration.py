#: what = "no interface and no route can be made"
#: has = ["refused"]
#: lacks = ["REACHED"]
import fcntl
import socket
import struct

asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
link = struct.pack("=BxHiII", 0, 0, 0, 1, 1) + struct.pack("=HH6sxx", 10, 3, b"evil0\0")
asking.send(struct.pack("=IHHII", 16 + len(link), 16, 0x605, 1, 0) + link)
answer = asking.recv(4096)
if struct.unpack_from("=i", answer, 16)[0] == 0:
    print("REACHED a new interface")
try:
    fcntl.ioctl(socket.socket(), 0x8914, struct.pack("=16sH", b"lo", 0))
    print("REACHED the loopback's flags")
except OSError:
    pass
if [name for _, name in socket.if_nameindex()] != ["lo"]:
    print("REACHED", socket.if_nameindex())
print("refused")
