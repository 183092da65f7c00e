#: what = "names are resolved by nobody"
#: has = ["refused"]
#: lacks = ["REACHED"]
import socket

for name in ("example.org", "metadata.google.internal", "host.docker.internal", "nats"):
    try:
        print("REACHED", socket.getaddrinfo(name, 80))
    except OSError:
        pass
print("refused")
