#: what = "SIGKILL of the projector: nothing waits for the views"
#: kill = { process = "projector", at = "leased builder" }
#: has = ["done"]
echo done
