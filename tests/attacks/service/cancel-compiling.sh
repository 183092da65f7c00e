#: what = "a cancel in the middle of a compile stage"
#: stage = "compile"
#: cancel = "leased runner"
#: after_ms = 800
#: outcome = ["CANCELLED"]
#: compile = ["CANCELLED"]
sleep 50
