#: what = "a compile step that fills the box to its last byte and its last name: the runs still start"
#: stage = "compile"
#: then = "echo x > new && cat new && echo ran"
#: test_cases = [{}, {}]
#: has = ["ran"]
#: says = ["full of bytes, names"]
#: limits.compile.memory_bytes = 536870912
import os
from itertools import count

full_of = []
try:
    for number in count():
        with open(f"large{number}", "wb", buffering=0) as file:
            file.writelines(b"x" * (1 << 20) for _ in range(32))
except OSError:
    full_of.append("bytes")
try:
    for number in count():
        os.close(os.open(f"small{number}", os.O_CREAT | os.O_WRONLY))
except OSError:
    full_of.append("names")
print("full of", ", ".join(full_of))
