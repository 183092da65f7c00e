#: what = "SIGKILL of the NATS server at the hand-in: what it confirmed is not lost"
#: kill = { process = "server", at = "submitted" }
#: has = ["done"]
echo done
