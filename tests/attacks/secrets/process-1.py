#: what = "process 1 of the jail, its memory, its descriptors and its root are closed"
#: has = ["refused"]
#: lacks = ["REACHED"]
import os

for pid in ("1", str(os.getppid())):
    for name in ("environ", "maps", "mem", "auxv", "stack", "syscall", "smaps", "pagemap"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                if file.read(64):
                    print("REACHED", pid, name)
        except OSError:
            pass
    for name in ("fd", "map_files", "root", "cwd", "ns"):
        try:
            if os.listdir(f"/proc/{pid}/{name}"):
                print("REACHED", pid, name)
        except OSError:
            pass
    for name in ("exe", "root", "cwd", "ns/user", "ns/mnt"):
        try:
            print("REACHED", pid, name, os.readlink(f"/proc/{pid}/{name}"))
        except OSError:
            pass
print("refused")
