#: what = "arguments and test case names of shell code are arguments and names"
#: test_cases = [{ name = "$(touch /tmp/x); `id`", args = ["; exit 3", "$(exit 4)", "--", "-c", "exit 5", "\n", "../../etc"] }]
#: has = ["7 arguments, exit 5"]
echo "$# arguments, $5"
