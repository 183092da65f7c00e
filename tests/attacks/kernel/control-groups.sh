#: what = "control groups can't be seen, mounted or written"
#: has = ["refused"]
#: lacks = ["REACHED"]
for name in /sys/fs/cgroup /sys/fs/cgroup/memory /sys/fs/cgroup/cgroup.procs /cgroup; do
  ls "$name" > /dev/null 2>&1 && echo "REACHED $name"
done
grep -v ':/$' /proc/self/cgroup && echo "REACHED a path of a control group"
mkdir /tmp/groups
mount -t cgroup2 none /tmp/groups 2> /dev/null && echo "REACHED mount"
echo refused
