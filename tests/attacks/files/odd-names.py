#: what = "files with names of odd bytes, and as long as they can be"
#: stage = "compile"
#: then = "shopt -s dotglob; for name in */*; do [ -f \"$name\" ] && let found+=1; done; echo $found found"
#: test_cases = [{}, {}]
#: has = ["9 found"]
import os

for name in (b"\n", b"\xff\xfe", b"-rf", b"$(id)", b"`id`", b"; id", b"..." * 80, b"a\rb", b"\x1b[2J"):
    os.mkdir(name)
    open(name + b"/" + name, "w").close()
