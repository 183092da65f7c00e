#: what = "the stack's own server, on every port of every address that the jail has"
#: has = ["refused"]
#: lacks = ["REACHED"]
import socket

for port in range(1, 65536):
    asking = socket.socket()
    if asking.connect_ex(("127.0.0.1", port)) == 0 and asking.getsockname() != asking.getpeername():
        print("REACHED", port)
    asking.close()
print("refused")
