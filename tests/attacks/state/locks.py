#: what = "locks and watches on files of the store, which all environments share, reach nobody beside"
#: submissions = 2
#: beside = true
#: has = ["held 3"]
#: lacks = ["FOUND"]
import fcntl
import shutil
import time

held = []
for name in ("bash", "python3", "gcc"):
    file = open(shutil.which(name), "rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("FOUND a lock of another's on", name)
    else:
        held.append(file)
print("held", len(held))
time.sleep(1.5)
