#: what = "an input that is closed at once"
#: input_bytes = 5000000
#: has = ["done"]
#: within_ms = 8000
exec 0<&-
sleep 0.2
echo done
