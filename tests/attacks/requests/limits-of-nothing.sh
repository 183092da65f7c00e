#: what = "limits that are negative"
#: limits.run.wall_time_ms = -1
#: refused = "it must be from 1 to"
#: unchecked = true
echo ran
