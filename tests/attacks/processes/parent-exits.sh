#: what = "the parent exits while its children live: the stage ends with the parent"
#: has = ["left 5"]
#: within_ms = 8000
for n in 1 2 3 4 5; do
  (sleep 100 & sleep 100) < /dev/null > /dev/null 2>&1 &
done
echo "left $(jobs -p | wc -l)"
