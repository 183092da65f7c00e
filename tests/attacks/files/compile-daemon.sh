#: what = "a daemon that the compile step leaves is not there when a test case runs"
#: stage = "compile"
#: then = "grep python /proc/[0-9]*/comm; ls late 2> /dev/null; sleep 0.5; ls late 2> /dev/null; echo ran"
#: has = ["ran"]
#: says = ["left one"]
#: lacks = ["comm:", "late"]
python3 - > /dev/null 2>&1 << 'end' && echo "left one"
import os
import time

if os.fork() == 0:
    os.setsid()
    time.sleep(0.3)
    open("late", "w").close()
    time.sleep(100)
end
