#: what = "a program that asks the OOM killer to take others: it is taken itself"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: limits.run.memory_bytes = 67108864
for name in ("/proc/self/oom_score_adj", "/proc/self/oom_adj"):
    for value in ("-1000", "-17", "0"):
        try:
            with open(name, "w") as file:
                file.write(value)
        except OSError:
            pass
hoard = []
while True:
    hoard.append(b"x" * (1 << 20))
