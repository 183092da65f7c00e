#: what = "control groups can't be seen, mounted or written"
#: has = ["mount: EPERM", "refused"]
#: lacks = ["REACHED"]
for name in /sys/fs/cgroup /sys/fs/cgroup/memory /sys/fs/cgroup/cgroup.procs /cgroup; do
  ls "$name" > /dev/null 2>&1 && echo "REACHED $name"
done
grep -v ':/$' /proc/self/cgroup && echo "REACHED a path of a control group"
mkdir /tmp/groups
python3 - << 'end'
import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"none", b"/tmp/groups", b"cgroup2", 0, None) == 0:
    print("REACHED mount")
print("mount:", errno.errorcode[ctypes.get_errno()])
end
echo refused
