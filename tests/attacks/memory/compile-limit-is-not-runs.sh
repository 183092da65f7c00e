#: what = "a compile stage and a run stage have different limits, and both hold"
#: before = "exec python3 -c 'len(bytearray(150 << 20))'"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: [limits.compile]
#: memory_bytes = 268435456
#: [limits.run]
#: memory_bytes = 67108864
exec python3 -c 'len(bytearray(150 << 20))'
