#: what = "a sparse file of a terabyte"
#: outcome = ["RUN_ERROR"]
#: run = ["FSE"]
exec truncate -s 1T sparse
