#: what = "a test case that used all its processes, memory and time leaves the next one its own"
#: outcome = ["RUN_ERROR"]
#: test_cases = [{ args = ["memory"] }, { args = ["time"] }, { args = ["processes"] }, { args = ["nothing"], expected_output = "well" }]
#: runs = ["MLE", "TLE_CPU", "RE", "OK"]
#: [limits.run]
#: memory_bytes = 67108864
#: cpu_time_ms = 400
#: processes = 10
case $1 in
  memory) exec python3 -c 'b"x" * (200 << 20)' ;;
  time) while :; do :; done ;;
  processes) exec python3 -c 'import os, time; [os.fork() or time.sleep(3) for _ in range(30)]' 2> /dev/null ;;
  nothing) echo well ;;
esac
