#: what = "a compile step that takes every right from the box: what comes of it is the user's own, and no fault of cutor's"
#: stage = "compile"
#: then = "echo ran"
#: test_cases = [{}, {}]
#: outcome = ["OK", "RUN_ERROR"]
#: run = ["OK", "RE"]
chmod 000 /box
