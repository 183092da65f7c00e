#: what = "directories far deeper than any path may be long, left by compile and made again by each run"
#: stage = "compile"
#: then = "exec python3 attack.py"
#: test_cases = [{}, {}]
#: has = ["deep"]
#: [limits.compile]
#: memory_bytes = 536870912
#: [limits.run]
#: memory_bytes = 536870912
import os

for _ in range(5000):
    if not os.path.isdir("d"):
        os.mkdir("d")
    os.chdir("d")
print("deep")
