#: what = "SIGKILL of the runner in the middle of a compile stage: it is compiled again, from the submission's own files"
#: stage = "compile"
#: then = "cat made"
#: kill = { process = "runner", at = "leased runner" }
#: after_ms = 800
#: has = ["made once"]
test -e made && exit 1
echo made once > made
sleep 2
