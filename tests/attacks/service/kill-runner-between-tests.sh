#: what = "SIGKILL of the runner between two test cases: every test case is reported once"
#: kill = { process = "runner", at = "ran" }
#: test_cases = [{ args = ["0"] }, { args = ["1.5"] }]
#: has = ["done"]
sleep "$1"
echo done
