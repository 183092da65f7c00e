#: what = "no interface and no route can be made, by netlink or by ioctl"
#: has = ["refused"]
#: lacks = ["REACHED"]
import fcntl
import socket
import struct

try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    print("REACHED netlink")
except OSError:
    pass
for call, argument in (
    (0x8914, struct.pack("=16sH", b"lo", 0)),  # SIOCSIFFLAGS
    (0x8916, struct.pack("=16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton("10.1.2.3"))),  # SIOCSIFADDR
    (0x890B, bytes(120)),  # SIOCADDRT
    (0x89A0, b"bridge0\0"),  # SIOCBRADDBR
):
    try:
        fcntl.ioctl(socket.socket(), call, argument)
        print("REACHED", hex(call))
    except OSError:
        pass
with open("/proc/net/dev") as listed:
    names = [line.split(":")[0].strip() for line in listed if ":" in line]
if names != ["lo"]:
    print("REACHED", names)
socket.getaddrinfo("localhost", 80)  # works without netlink
with socket.create_server(("localhost", 0)) as server:
    socket.create_connection(server.getsockname()).close()
print("refused")
