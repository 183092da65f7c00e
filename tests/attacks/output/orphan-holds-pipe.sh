#: what = "an orphan that holds the output pipes: the stage does not wait for it"
#: has = ["done"]
#: lacks = ["LATE"]
#: within_ms = 8000
(sleep 50; echo LATE) &
echo done
