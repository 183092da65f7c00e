#: what = "one line of ten megabytes"
#: printed_at_least = 10000000
#: [limits.run]
#: stdout_bytes = 10000000
import sys

sys.stdout.write("x" * 10_000_000)
