#: what = "a directory in place of the run script"
#: stage = "compile"
#: outcome = ["RUN_ERROR"]
#: run = ["RE"]
rm cutor-run.sh
mkdir cutor-run.sh
