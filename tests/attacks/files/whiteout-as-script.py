#: what = "a whiteout in place of the run script: there is none then"
#: stage = "compile"
#: then = "echo ran"
#: test_cases = [{}, {}]
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
#: exit_code = 127
import os

os.unlink("cutor-run.sh")
os.mknod("cutor-run.sh", 0o20666, os.makedev(0, 0))
