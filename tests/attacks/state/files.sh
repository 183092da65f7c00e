#: what = "files left in /tmp, /dev/shm and the box are seen by no later test case and no later submission"
#: test_cases = [{}, {}]
#: submissions = 2
#: has = ["left /tmp\nleft /dev/shm\nleft /box\n"]
#: lacks = ["FOUND"]
for place in /tmp /dev/shm /box /; do
  [ -e "$place/left-behind" ] && echo "FOUND $place"
  touch "$place/left-behind" 2> /dev/null && echo "left $place"
done
echo 'echo FOUND script' > cutor-run.sh
echo 'echo FOUND profile' > "$HOME/.bashrc"
