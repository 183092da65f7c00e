#: what = "memory by files in /dev/shm: they are the stage's own memory"
#: outcome = ["RUN_ERROR"]
#: run = ["MLE"]
#: [limits.run]
#: memory_bytes = 67108864
for n in {1..40}; do
  head -c 10M /dev/zero > /dev/shm/fill.$n || exit 0
done
echo ALL
sleep 5
