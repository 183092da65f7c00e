#: what = "SIGKILL of the NATS server in the middle of a run: it comes back and the submission ends"
#: kill = { process = "server", at = "leased runner" }
#: after_ms = 800
#: has = ["done"]
sleep 2
echo done
