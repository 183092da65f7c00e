#: what = "extended attributes without end in the box that compile leaves: refused, or memory of the stage like any other"
#: stage = "compile"
#: then = "echo ran"
#: outcome = ["OK", "COMPILE_ERROR"]
#: compile = ["OK", "MLE"]
#: says = ["tried"]
#: lacks = ["UNBOUNDED"]
#: [limits.compile]
#: memory_bytes = 134217728
#: cpu_time_ms = 20000
import os

print("tried", flush=True)
kept = 0
for count in range(30_000):
    name = f"file{count}"
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        os.setxattr(name, "user.room", b"x" * 60_000)
        kept += 1
    except OSError:
        pass
print("UNBOUNDED" if kept * 60_000 > 134217728 else f"kept {kept}")
