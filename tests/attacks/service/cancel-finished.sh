#: what = "a cancel after the end changes nothing"
#: cancel = "finished"
#: has = ["done"]
echo done
