#: what = "exit code 139 is an exit code, no segmentation fault"
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
#: exit_code = 139
exit 139
