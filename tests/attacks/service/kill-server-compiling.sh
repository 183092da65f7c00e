#: what = "SIGKILL of the NATS server in the middle of a compile stage"
#: stage = "compile"
#: then = "echo done"
#: kill = { process = "server", at = "leased runner" }
#: after_ms = 600
#: has = ["done"]
sleep 2
