#: what = "SIGKILL of the runner's container in the middle of a run: the run is made again"
#: kill = { process = "container", at = "leased runner" }
#: after_ms = 800
#: has = ["done"]
sleep 2
echo done
