#: what = "a daemon that the compile step leaves is not there when a test case runs"
#: stage = "compile"
#: then = "cat /proc/[0-9]*/comm; ls /box/late 2> /dev/null; sleep 0.5; ls /box/late 2> /dev/null; echo ran"
#: has = ["ran"]
#: says = ["left 1"]
#: lacks = ["sleep", "late"]
(setsid bash -c 'sleep 0.3; touch /box/late' < /dev/null > /dev/null 2>&1 & kill -0 $! && echo "left 1")
