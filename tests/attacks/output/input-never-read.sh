#: what = "an input that is never read"
#: input_bytes = 5000000
#: has = ["done"]
#: within_ms = 8000
sleep 0.2
echo done
