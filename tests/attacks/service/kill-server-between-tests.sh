#: what = "SIGKILL of the NATS server between two test cases"
#: kill = { process = "server", at = "ran" }
#: test_cases = [{ args = ["0"] }, { args = ["1.5"] }]
#: has = ["done"]
sleep "$1"
echo done
