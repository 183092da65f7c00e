#: what = "memory by what is sent over the loopback and never read: up to a bound for all sockets of a container"
#: test_cases = [{ args = ["datagrams"] }, { args = ["streams"] }]
#: lacks = ["too much"]
#: has = ["held"]
#: limits.run.memory_bytes = 67108864
#: limits.run.wall_time_ms = 60000
import contextlib
import os
import socket
import sys
import time

PIECE = b"x" * 60_000
TOO_MUCH_MB = 300  # of all containers on this machine; one without a bound held 2400 and 600


def datagrams() -> list[socket.socket]:
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 30)
    end.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(40):
            sender.sendto(PIECE, end.getsockname())
    return [end]


def streams() -> list[socket.socket]:
    one = socket.create_connection(listener.getsockname())
    other, _ = listener.accept()
    for end in (one, other):
        end.setblocking(False)
        for _ in range(60):
            try:
                end.send(PIECE)
            except BlockingIOError:
                time.sleep(0.0005)
    return [one, other]


def held_mb() -> int:
    with open("/proc/net/sockstat") as lines:
        pages = [int(line.split()[-1]) for line in lines if line.startswith(("TCP:", "UDP:"))]
    return sum(pages) * 4096 >> 20


listener = socket.create_server(("127.0.0.1", 0))
deadline = time.monotonic() + 8
children = []
for _ in range(15 if sys.argv[1] == "datagrams" else 1):
    reader, writer = os.pipe()
    if os.fork() == 0:
        held = []
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                held += datagrams() if sys.argv[1] == "datagrams" else streams()
        os.write(writer, b"full")
        time.sleep(30)
        os._exit(0)
    os.close(writer)
    children.append(reader)
for reader in children:
    os.read(reader, 10)
print("held", "too much" if held_mb() > TOO_MUCH_MB else "little", held_mb(), "MB")
