#: what = "whiteouts and the overlay's own attributes among what compile leaves: they hide the user's own files at most"
#: stage = "compile"
#: then = "test -e hidden && echo REACHED; mkdir hidden && rm -r full && mkdir full && ls -A full; echo ran"
#: test_cases = [{}, {}]
#: has = ["ran"]
#: lacks = ["REACHED", "root:"]
import os

os.mkdir("full")
open("full/file", "w").close()
for name in ("hidden", "full/hidden"):
    os.mknod(name, 0o20666, os.makedev(0, 0))
for place in (".", "full", "cutor-run.sh"):
    for name in ("opaque", "redirect", "metacopy", "origin", "whiteout"):
        try:
            os.setxattr(place, f"user.overlay.{name}", b"y")
            print("REACHED", place, name)
        except OSError:
            pass
