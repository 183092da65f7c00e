#: what = "SIGKILL of the runner's container in the middle of a compile stage: no COMPILE_ERROR of the user's"
#: stage = "compile"
#: then = "echo done"
#: kill = { process = "container", at = "leased runner" }
#: after_ms = 800
#: has = ["done"]
sleep 2
