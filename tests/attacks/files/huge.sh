#: what = "a file larger than its limit"
#: outcome = ["RUN_ERROR"]
#: run = ["FSE"]
exec head -c 100M /dev/zero > huge
