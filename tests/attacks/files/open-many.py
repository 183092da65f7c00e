#: what = "files opened without end"
#: has = ["bounded"]
#: limits.run.open_files = 64
import os

held = []
try:
    while len(held) < 5000:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print("bounded" if len(held) <= 64 else "UNBOUNDED")
