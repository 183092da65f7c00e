#: what = "TCP and UDP to the internet, to the host, to Docker's networks and to metadata services"
#: has = ["refused"]
#: lacks = ["REACHED"]
import socket

ADDRESSES = ("1.1.1.1", "8.8.8.8", "169.254.169.254", "172.17.0.1", "172.17.0.2", "192.168.0.1", "10.0.0.1", "100.100.100.200")
for address in (*ADDRESSES, "2606:4700:4700::1111", "fd00:ec2::254", "fe80::1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in (53, 80, 2375, 4222, 8222):
        tcp = socket.socket(family)
        tcp.settimeout(0.2)
        if tcp.connect_ex((address, port)) == 0:
            print("REACHED tcp", address, port)
        tcp.close()
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.sendto(b"x", (address, port))
            print("REACHED udp", address, port)
        except OSError:
            pass
        udp.close()
print("refused")
