#: what = "a cancel at once after the hand-in"
#: cancel = "submitted"
#: outcome = ["CANCELLED"]
#: run = ["CANCELLED"]
#: limits.run.wall_time_ms = 60000
sleep 50
