#: what = "SIGKILL of the runner between the compile stage and the first run"
#: before = "echo made once >> made"
#: kill = { process = "runner", at = "compiled" }
#: test_cases = [{ expected_output = "made once" }]
#: compare = "exact"
sleep 1
printf %s "$(cat made)"
