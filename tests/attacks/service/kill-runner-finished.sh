#: what = "SIGKILL of the runner at a submission's end: it is cleaned all the same"
#: kill = { process = "runner", at = "finished" }
#: has = ["done"]
echo done
