#: what = "descriptors left on their way in sockets, counted by user and freed bit by bit: who comes next meets none"
#: submissions = 2
#: test_cases = [{}, {}]
#: limits.run.open_files = 512
#: has = ["sent"]
#: lacks = ["REACHED"]
import array
import os
import resource
import socket

PAIR = (socket.AF_UNIX, socket.SOCK_DGRAM)


def send(end, held):
    end.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", held))])


files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (8, files[1]))
here, there = socket.socketpair(*PAIR)
try:
    send(here, [0])  # refused to who has more than eight on their way
    print("sent", flush=True)
except OSError:
    print("REACHED what was left", flush=True)
resource.setrlimit(resource.RLIMIT_NOFILE, files)
first, other = socket.socketpair(*PAIR)
held = []
for _ in range(60):
    here, there = socket.socketpair(*PAIR)
    send(here, [*held, 0, 0, 0])
    for one in held:
        os.close(one)
    held = [there.detach()]
    here.close()
send(first, [other.fileno(), *held])
os._exit(0)
