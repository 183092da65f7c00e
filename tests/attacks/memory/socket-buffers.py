#: what = "memory by what is sent through pipes and sockets and never read, descriptors in flight included"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: limits.run.memory_bytes = 67108864
#: test_cases = [{ args = ["pipes"] }, { args = ["sockets"] }, { args = ["flight"] }]
#: limits.run.open_files = 1024
import array
import contextlib
import fcntl
import os
import socket
import sys

PIECE = b"x" * 4096


def fill(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, PIECE)


def pair() -> tuple[socket.socket, socket.socket]:
    both = socket.socketpair()
    for one in both:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
    return both


held = []
while True:
    if sys.argv[1] == "pipes":
        held.append(os.pipe())
        with contextlib.suppress(OSError):
            fcntl.fcntl(held[-1][1], 1031, 1 << 20)  # F_SETPIPE_SZ
        fill(held[-1][1])
    elif sys.argv[1] == "sockets":
        held.append(pair())
        fill(held[-1][0].fileno())
    else:
        (one, other), (a, b) = pair(), pair()
        fill(one.fileno())
        b.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno() for s in (one, other, a, b)]))])
        for end in (one, other, a, b):
            end.close()
