#: what = "SIGKILL of the runner in the middle of a run: another life of it ends the submission"
#: kill = { process = "runner", at = "leased runner" }
#: after_ms = 800
#: has = ["done"]
sleep 2
echo done
