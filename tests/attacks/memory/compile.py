#: what = "memory without end in the compile stage"
#: stage = "compile"
#: then = "echo ran"
#: outcome = ["COMPILE_ERROR"]
#: compile = ["MLE"]
#: limits.compile.memory_bytes = 67108864
hoard = []
while True:
    hoard.append(b"x" * (1 << 20))
