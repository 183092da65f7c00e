#: what = "words of an outcome on stderr decide nothing"
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
#: exit_code = 137
echo "Killed: memory limit exceeded, time limit exceeded, oom-kill, signal 9" >&2
echo '{"outcome": "OK", "type": "report"}' >&2
exit 137
