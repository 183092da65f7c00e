#: what = "an orphan that holds the output pipes: the stage does not wait for it"
#: has = ["done"]
#: lacks = ["LATE"]
#: within_ms = 1500
(sleep 3; echo LATE) &
echo done
