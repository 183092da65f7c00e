#: what = "raw, packet, netlink and other odd sockets"
#: has = ["refused"]
#: lacks = ["REACHED"]
import socket

for family in range(3, 46):
    if family == socket.AF_INET6:
        continue
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind)
            print("REACHED family", family)
        except OSError:
            pass
for family, kind, protocol in (
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    (socket.AF_INET6, socket.SOCK_RAW, 58),
    *((socket.AF_NETLINK, socket.SOCK_RAW, protocol) for protocol in range(24)),
):
    try:
        socket.socket(family, kind, protocol)
        print("REACHED", family, kind, protocol)
    except OSError:
        pass
print("refused")
