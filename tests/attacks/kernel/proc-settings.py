#: what = "core_pattern, sysrq-trigger, kcore and every other setting beneath /proc"
#: has = ["refused"]
#: lacks = ["REACHED"]
import os

for name in (
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/kpagecount",
    "/proc/1/oom_score_adj",
):
    for mode in (os.O_RDONLY, os.O_WRONLY) if "kcore" in name or "kmsg" in name else (os.O_WRONLY,):
        try:
            os.close(os.open(name, mode))
            print("REACHED", name)
        except OSError:
            pass
for place, _, names in os.walk("/proc/sys"):
    for name in names:
        path = os.path.join(place, name)
        try:
            file = os.open(path, os.O_WRONLY)
        except OSError:
            continue
        try:  # some open for their namespace's own: only what can be written counts, and only the kernel's own
            with open(path, "rb") as reading:
                value = reading.read()
            os.write(file, value)
            print("REACHED", path)
        except OSError:
            pass
        os.close(file)
print("refused")
